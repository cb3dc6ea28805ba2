//! Finding the way with 10,000 names: the edge's table and the connector's rules must cost the same as with one.

use std::hint::black_box;

use causeway_connector::ingress::{self, Matcher};
use causeway_edge::route;
use criterion::{Criterion, criterion_group, criterion_main};

const SIZES: [usize; 2] = [1, 10_000];

fn edge(c: &mut Criterion) {
    for size in SIZES {
        let mut table = route::Table::default();
        for n in 0..size {
            let pattern =
                if n % 10 == 9 { format!("*.w{n}.example.test") } else { format!("site{n}.example.test") };
            let pattern = route::Pattern::parse(&pattern).expect("a valid pattern");
            table.insert(&pattern, n).expect("patterns differ");
        }
        let last = format!("site{}.example.test", size / 10 * 10);
        c.bench_function(&format!("edge table of {size}: exact name"), |b| {
            b.iter(|| black_box(table.find(black_box(&last))))
        });
        c.bench_function(&format!("edge table of {size}: deep name below a wildcard"), |b| {
            b.iter(|| black_box(table.find(black_box("a.b.c.w9.example.test"))));
        });
        c.bench_function(&format!("edge table of {size}: unknown name"), |b| {
            b.iter(|| black_box(table.find(black_box("nobody.invalid"))));
        });
    }
}

fn connector(c: &mut Criterion) {
    for size in SIZES {
        let rule = |n: usize| Matcher {
            hostname: route::Pattern::parse(&format!("site{n}.example.test")).expect("a valid pattern"),
            path: None,
        };
        let catch_all = Matcher { hostname: route::Pattern::Any, path: None };
        let table = ingress::Table::new((0..size).map(rule).chain([catch_all]).collect());
        let last = format!("site{}.example.test", size - 1);
        c.bench_function(&format!("{size} rules: the last name"), |b| {
            b.iter(|| black_box(table.find(black_box(&last), "/a/b?c")));
        });
        c.bench_function(&format!("{size} rules: the catch-all"), |b| {
            b.iter(|| black_box(table.find(black_box("nobody.test"), "/")));
        });
    }
}

criterion_group!(benches, edge, connector);
criterion_main!(benches);
