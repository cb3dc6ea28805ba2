//! A socket that goes from one process of an edge to the next: here the processes are listeners.

use super::*;

/// A request and its answer on this session.
async fn works((edge, connector): &(Session, Session)) {
    let visitor = async {
        let (mut send, mut recv) = edge.open().await.unwrap();
        send.request(&request(), First::More).await.unwrap();
        send.data(Bytes::from(vec![3; 300_000])).await.unwrap();
        send.end().await.unwrap();
        recv.response().await.unwrap();
        assert_eq!(recv.frame().await.unwrap(), Frame::End);
    };
    let origin = async {
        let (mut send, mut recv) = connector.accept().await.unwrap();
        opened(&mut recv).await;
        let mut length = 0;
        while let Frame::Data(bytes) = recv.frame().await.unwrap() {
            length += bytes.len();
        }
        assert_eq!(length, 300_000);
        send.response(&response(StatusCode::OK), First::More).await.unwrap();
        send.end().await.unwrap();
    };
    tokio::join!(visitor, origin);
}

#[tokio::test]
async fn sessions_of_every_process_go_on_when_the_next_one_has_the_socket() {
    let identity = EdgeIdentity::ephemeral();
    let next = |inherited: crate::listen::Inherited| {
        let shard = Shard { index: 0, count: 1 };
        Listener::new(inherited, Certificates::of(&identity), Arc::new(default_provider()), shard).unwrap()
    };
    let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).unwrap();
    let address = socket.local_addr().unwrap();
    let token = Token {
        tunnel: TunnelId::random(),
        key_id: KeyId::random(),
        key: TunnelKey::generate(),
        edges: vec![address.to_string()],
        pin: identity.pin(),
    };
    let dialer = dialer(&token);
    let mut edge = Edge { listener: next(socket.into()), token, address, _accepting: JoinSet::new() };
    let (mut before, mut sessions) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (served, dialled) =
            tokio::join!(edge.accept(Standing::Active), dialer.dial(address, Role::Primary));
        let ((served, control), (dialled, other)) = (served.unwrap(), dialled.unwrap());
        sessions.push(((served, dialled), (control, other)));
        for (session, _) in &sessions {
            works(session).await;
        }
        let (inherited, given) = edge.listener.to_hand_over().unwrap().unwrap();
        // Under way while the socket changes hands.
        tokio::join!(works(&sessions[0].0), async {
            edge.listener.give(given);
            before.push(std::mem::replace(&mut edge.listener, next(inherited)));
        });
    }
    for (session, _) in &sessions {
        works(session).await;
    }
    // A successor that ends leaves the socket to the one before: that one serves those whom it has, and new ones.
    let (_inherited, given) = edge.listener.to_hand_over().unwrap().unwrap();
    edge.listener.give(given);
    edge.listener.take_back();
    let (served, dialled) = tokio::join!(edge.accept(Standing::Active), dialer.dial(address, Role::Primary));
    works(&(served.unwrap().0, dialled.unwrap().0)).await;
    for (session, _) in &sessions {
        works(session).await;
    }
}

#[tokio::test]
async fn a_process_that_is_gone_without_a_word_is_told_of_by_the_next() {
    let identity = EdgeIdentity::ephemeral();
    let (certificates, provider) = (|| Certificates::of(&identity), Arc::new(default_provider()));
    let shard = Shard { index: 0, count: 1 };
    let (socket, _) = bind((Ipv4Addr::LOCALHOST, 0).into(), Reuse::Alone).unwrap();
    let address = socket.local_addr().unwrap();
    let token = Token {
        tunnel: TunnelId::random(),
        key_id: KeyId::random(),
        key: TunnelKey::generate(),
        edges: vec![address.to_string()],
        pin: identity.pin(),
    };
    // A runtime of its own is as good as a process: dropped, nothing of it says a word.
    let (first, of_process) = (certificates(), Arc::clone(&provider));
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let (end, is_ended) = tokio::sync::oneshot::channel::<()>();
    let edge_token = token.clone();
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = Listener::new(socket, first, of_process, shard).unwrap();
            let edge = Edge { listener, token: edge_token, address, _accepting: JoinSet::new() };
            ready.send(()).unwrap();
            let session = edge.accept(Standing::Active).await.unwrap();
            is_ended.await.unwrap();
            let (inherited, _given) = edge.listener.to_hand_over().unwrap().unwrap();
            // Dropped, they would say that they end.
            std::mem::forget((edge, session));
            inherited
        })
    });
    is_ready.await.unwrap();
    let (session, mut control) = dialer(&token).dial(address, Role::Primary).await.unwrap();
    end.send(()).unwrap();
    let inherited = process.join().unwrap();
    let _next = Listener::new(inherited, certificates(), provider, shard).unwrap();
    let told = async {
        // Something to answer.
        let _ = control.send(&Message::Probe { unheard: false }).await;
        session.closed().await
    };
    let closed = timeout(Duration::from_secs(5), told).await.unwrap();
    assert!(matches!(closed, Closed::Forgotten), "{closed:?}");
}
