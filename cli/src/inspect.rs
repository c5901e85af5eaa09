//! `firstlight inspect`: tells what a kernel file is and how it can be booted.

mod facts;
mod more;
mod text;

use crate::args::{InspectArgs, InspectFormat};
use crate::exit_status::ExitStatus;
use crate::failure::Failure;
use crate::file::InputFile;
use crate::json::to_text;
use crate::kernel;
use crate::output::print;
use crate::progress::Progress;
use facts::Facts;
use firstlight_image::{Image, ImageError, Limits};

/// Tells what `args` name.
pub(crate) fn inspect(args: &InspectArgs, progress: Progress) -> Result<(), Failure> {
    let file = InputFile::open(&args.image, "kernel")?;
    let bytes = kernel::read(&file, progress)?;
    let (image, not_unpacked) = take_apart(&file, &bytes, progress)?;
    let facts = Facts::gather(&file, &image, not_unpacked);
    print(&match args.format {
        InspectFormat::Text => text::facts(&facts),
        InspectFormat::Json => to_text(&facts),
    })
}

/// A kernel that cannot be unpacked here can still be told about, and perhaps unpacks itself; then
/// the reason comes along.
fn take_apart<'a>(
    file: &InputFile,
    bytes: &'a [u8],
    progress: Progress,
) -> Result<(Image<'a>, Option<String>), Failure> {
    let limits = Limits::default();
    let shown = file.path().display();
    let opened = progress.step(&format!("unpacking {shown}"), || {
        Image::open(bytes, &limits)
    });
    let error = match opened {
        Ok(image) => return Ok((image, None)),
        Err(error) => error,
    };
    if let ImageError::Unpack { source, .. } = &error
        && let Ok(image) = Image::open_outer(bytes, &limits)
    {
        return Ok((image, Some(source.to_string())));
    }
    let what = format!("{shown} cannot be booted");
    Err(Failure::because(ExitStatus::Image, what, &error))
}
