//! `firstlight plan`: shows where everything would go.

mod devices;
mod json;

use crate::args::{PlanArgs, PlanFormat};
use crate::cache::Store;
use crate::failure::Failure;
use crate::initrd::Initrd;
use crate::kernel::{self, Files};
use crate::output;
use crate::progress::Progress;
use firstlight_boot::draw;
use firstlight_image::{Architecture, Image};
use rustix::termios::{isatty, tcgetwinsize};
use std::io;

/// Plans what `args` describe and writes it as they want it.
pub(crate) fn plan(args: &PlanArgs, progress: Progress) -> Result<(), Failure> {
    let files = Files::open(&args.guest)?;
    let store = Store::open(progress);
    let opened = store.kernel(files.kernel(), &args.guest)?;
    let image = kernel::image(files.kernel(), &opened, &args.guest)?;
    // The request is taken as it is: a plan for reading is the same every time it is made, and
    // only a boot needs a seed that nobody knows.
    let initrd = Initrd::open(&store, &files, &image, &args.guest)?;
    let request = kernel::request(&args.guest, &files, &image, initrd.as_ref())?;
    let plan = kernel::plan(files.kernel(), &image, &request)?;
    kernel::dump_dtb(&args.guest, &plan)?;
    if args.devices {
        let shown = devices::show(&plan, args)?;
        return output::write(&shown, args.output.as_deref());
    }
    let mut drawn = match args.format {
        PlanFormat::Text => draw::text(&plan, width(args)),
        PlanFormat::Json => json::plan(&plan, &args.guest),
        PlanFormat::Svg => draw::svg(&plan),
    };
    if args.format == PlanFormat::Text {
        drawn.push_str(&cmdline_notes(args, &image));
        if args.guest.kaslr_is_untold() && kernel::has_dice_thrown(&image, &request) {
            drawn.push_str(
                "A boot draws the kernel's addresses at random; --kaslr-seed shows what comes of \
                 a seed.\n",
            );
        }
    }
    output::write(&drawn, args.output.as_deref())
}

/// Where the command line comes from, and what a boot does to it.
fn cmdline_notes(args: &PlanArgs, image: &Image<'_>) -> String {
    if image.firmware().is_some() {
        return String::new();
    }
    let default = match (args.guest.cmdline_is_default(), image.parts().cmdline) {
        (false, _) => "",
        (true, Some(_)) => "The command line is the image's own; --cmdline replaces it.\n",
        (true, None) => "The command line is the default one; --cmdline replaces it.\n",
    };
    let clock = match image.architecture() {
        Architecture::Arm64 | Architecture::Riscv64 => "",
        _ => "On the qemu engine a boot puts tsc_early_khz= in front of the command line.\n",
    };
    let init = match args.guest.needs_initramfs() {
        true => "In front of it is what starts Firstlight's own initramfs.\n",
        false => "",
    };
    format!("\n{default}{init}{clock}")
}

/// The terminal's width within what is pleasant to read; a fixed one for everything else.
fn width(args: &PlanArgs) -> usize {
    const FIXED: usize = 100;
    let stdout = io::stdout();
    if args.output.is_some() || !isatty(&stdout) {
        return FIXED;
    }
    tcgetwinsize(&stdout).map_or(FIXED, |size| usize::from(size.ws_col).clamp(80, 160))
}
