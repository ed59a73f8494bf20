//! Arguments in, exit code out.

use std::process::ExitCode;

/// jemalloc gives memory back to the system in the background: the head grows and shrinks by hundreds of megabytes.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tracelake::cli::main()
}
