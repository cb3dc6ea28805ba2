//! causeway-connector: parses the command line and runs one command on a small runtime of its own.

use std::process::ExitCode;
use std::time::Duration;

use causeway_connector::cli::Cli;
use clap::Parser;

/// Gives back to the system what an attack made us take; the usual one keeps it.
#[cfg(feature = "fast")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a thread beside the runtime may still write once all tasks have ended. One that asks a name server which does not answer would
/// hold up the end for much longer.
const LAST_WRITES: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let cli = Cli::parse();
    // Control, reload and admin live on this thread; the shards that carry requests make threads of their own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("causeway-connector: the system gave no event queue: {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli.run());
    runtime.shutdown_timeout(LAST_WRITES);
    code
}
