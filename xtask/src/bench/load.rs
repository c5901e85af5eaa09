//! What loading costs, beside linux-loader: the bench is the loader's own, the kernels are Debian's.

use crate::cache::Cache;
use crate::failure::Outcome;
use crate::kernel;
use crate::process;
use crate::project::Project;

/// Measures with every kernel that is tried.
pub(super) fn run(project: &Project, cache: &Cache) -> Outcome {
    let words = [
        "bench",
        "--quiet",
        "--package",
        "firstlight-load",
        "--bench",
        "load",
        "--",
    ];
    let mut bench = project.cargo(&words);
    for release in &kernel::RELEASES {
        bench.arg(kernel::fetch(cache, release)?.file);
    }
    process::run(&mut bench)
}
