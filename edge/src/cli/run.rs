//! `run`: the edge until a signal ends it.

use std::process::ExitCode;

use causeway_daemon::drain::Finished;
use causeway_daemon::signals::Signals;
use causeway_daemon::{limits, telemetry};

use super::{Common, RunArgs, complain};
use crate::app::App;
use crate::config::{Config, Overrides};
use crate::handover::{Upgrade, detach};

pub(super) async fn run(common: &Common, args: RunArgs) -> ExitCode {
    if args.detach {
        return match detach() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                complain(&error);
                ExitCode::FAILURE
            }
        };
    }
    match Box::pin(start_and_wait(common, args)).await {
        Ok(Finished::Clean) => ExitCode::SUCCESS,
        // The grace period ran out, or a second signal came: what was asked for was done.
        Ok(Finished::Forced) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

async fn start_and_wait(common: &Common, args: RunArgs) -> Result<Finished, Box<dyn std::error::Error>> {
    let RunArgs { dev, https, http, tunnel, admin, address, take_over, detach: _ } = args;
    let overrides = Overrides { dev, https, http, tunnel, admin, address, ..common.overrides()? };
    let config = Config::load(common.config.as_deref(), &overrides)?;
    let (levels, _flush) = telemetry::init(config.log.format, &config.log.level)?;
    limits::raise_nofile();
    // Before anything is bound: a signal during the start is a stop, not a kill.
    let mut signals = Signals::install()?;
    let upgrade = Upgrade::install()?;
    let file = common.config.clone();
    let reload = move || Config::load(file.as_deref(), &overrides);
    let app = if take_over {
        App::take_over(config, Some(levels)).await?
    } else {
        App::start(config, Some(levels)).await?
    };
    drop(app.drain().spawn_service("upgrade", upgrade.run(app.drain())));
    causeway_daemon::systemd::ready();
    common.output.print(&app.listening(), |_| String::new())?;
    Ok(app.run(&mut signals, reload).await)
}
