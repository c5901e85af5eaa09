//! Swapping: what a running guest's memory holds goes to a file, and comes back page by page as it is
//! touched, by vCPUs, devices and the host's kernel alike.
//!
//! One thread does everything, so that between a page's way out and what the table says of it nobody gets in:
//! the kernel takes pages out in one step (`UFFDIO_MOVE`, Linux 6.8), and who touches one waits until this thread
//! has read of it and brought it back. Between batches it answers whoever waits.

mod pieces;
#[cfg(test)]
mod tests;
mod userfault;

use crate::bell::Bell;
use crate::{RunError, signals};
use firstlight_load::GuestMemory;
use pieces::Piece;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::AsFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use userfault::{Event, PAGE, PAGE_LEN, Staging, Userfault};

/// How many pages a fault brings back at most: the one that is wanted and those behind it.
const READ_AHEAD: usize = 8;

/// Why memory cannot be swapped. What the guest's memory held it still holds.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// The file cannot be made.
    #[error("cannot make a file to swap to in {}", folder.display())]
    Folder {
        /// Where it was to be.
        folder: PathBuf,
        /// What the host said.
        source: io::Error,
    },
    /// The host has no userfaultfd for us, or one without `UFFDIO_MOVE`.
    #[error("cannot swap: it takes Linux 6.8 or newer, and root's rights or /dev/userfaultfd")]
    Userfault(#[source] io::Error),
    /// The file takes no more, for a full disk most likely. All is back in memory.
    #[error("cannot write to the file that is swapped to")]
    Write(#[source] io::Error),
    /// The file cannot be read. What is in it stays there.
    #[error("cannot read from the file that is swapped to")]
    Read(#[source] io::Error),
    /// The engine has the guest's memory in another process.
    #[error("the guest's memory can be swapped by the kvm engine only, not by the {engine} one")]
    Engine {
        /// The engine's name.
        engine: &'static str,
    },
    /// The guest's memory is in other processes, too, which serve devices of it.
    #[error(
        "the guest's memory cannot be swapped: other processes that serve its devices have it, too"
    )]
    Shared,
    /// The machine has ended.
    #[error("the machine has ended")]
    Ended,
}

/// How swapping goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwapStatus {
    /// Whether memory is out, so that faults are served.
    pub out: bool,
    /// How many bytes of the guest's memory the host has in memory.
    pub resident: u64,
    /// How many bytes are in the file.
    pub swapped: u64,
    /// How many bytes cannot be swapped: files' pages and memory that other processes have too.
    pub left_out: u64,
    /// How many bytes held zeros only, and went without room in the file, last time.
    pub zeros: u64,
    /// How many faults were served since the last time out.
    pub faults: u64,
    /// How many pages were lost since the file could not be read; who touches one gets `SIGBUS`.
    pub lost: u64,
    /// How many bytes went out last time, and how long that took.
    pub went_out: (u64, Duration),
    /// How many bytes came in when all was brought back, and how long that took.
    pub came_in: (u64, Duration),
}

/// The swap of a machine's memory. When dropped, everything comes back that
/// anybody could still read.
#[derive(Debug)]
pub struct Swap {
    bell: Arc<Bell>,
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

enum Verb {
    Out,
    In,
    Status,
}

type Request = (Verb, mpsc::Sender<Result<SwapStatus, SwapError>>);

impl Swap {
    /// The swap of `memory` to a file in `folder`, which has no name and goes with the process.
    ///
    /// # Errors
    ///
    /// [`RunError`] where no file can be made there, or the host has no descriptors or threads left.
    pub fn new(memory: Arc<GuestMemory>, folder: &Path) -> Result<Self, RunError> {
        // One that is not there is said before somebody relies on it.
        make_file(folder)?;
        let folder = folder.to_owned();
        Self::with(memory, Box::new(move || make_file(&folder)))
    }

    fn with(memory: Arc<GuestMemory>, file: FileMaker) -> Result<Self, RunError> {
        let bell = Arc::new(Bell::new()?);
        let (requests, wanted) = mpsc::channel();
        let worker = Worker {
            memory,
            file,
            bell: Arc::clone(&bell),
            out: None,
            status: SwapStatus::default(),
        };
        let thread = thread::Builder::new()
            .name("swap".to_owned())
            .spawn(move || {
                signals::leave_to_others();
                worker.work(&wanted);
            })
            .map_err(RunError::host("start the swap's thread"))?;
        Ok(Self {
            bell,
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Brings out all that is in memory, but for what is touched meanwhile.
    ///
    /// # Errors
    ///
    /// [`SwapError`]; everything is in memory then.
    pub fn page_out(&self) -> Result<SwapStatus, SwapError> {
        self.ask(Verb::Out)
    }

    /// Brings everything back, after which faults cost nothing again.
    ///
    /// # Errors
    ///
    /// [`SwapError::Read`]; what could not be read stays out.
    pub fn page_in(&self) -> Result<SwapStatus, SwapError> {
        self.ask(Verb::In)
    }

    /// How it goes.
    ///
    /// # Errors
    ///
    /// [`SwapError::Ended`].
    pub fn status(&self) -> Result<SwapStatus, SwapError> {
        self.ask(Verb::Status)
    }

    fn ask(&self, verb: Verb) -> Result<SwapStatus, SwapError> {
        let (answer, answered) = mpsc::channel();
        let requests = self.requests.as_ref().ok_or(SwapError::Ended)?;
        requests.send((verb, answer)).or(Err(SwapError::Ended))?;
        self.bell.ring();
        answered.recv().unwrap_or(Err(SwapError::Ended))
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        drop(self.requests.take());
        self.bell.ring();
        if let Some(thread) = self.thread.take() {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

type FileMaker = Box<dyn Fn() -> Result<File, SwapError> + Send>;

fn make_file(folder: &Path) -> Result<File, SwapError> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR);
    file.map(File::from).map_err(|source| SwapError::Folder {
        folder: folder.to_owned(),
        source: source.into(),
    })
}

struct Worker {
    memory: Arc<GuestMemory>,
    file: FileMaker,
    bell: Arc<Bell>,
    out: Option<Out>,
    status: SwapStatus,
}

impl Worker {
    fn work(mut self, wanted: &mpsc::Receiver<Request>) {
        loop {
            self.wait();
            self.bell.answer();
            if let Some(out) = &mut self.out {
                out.serve();
            }
            loop {
                match wanted.try_recv() {
                    Ok((verb, answer)) => {
                        // Who has gone does not want it any more.
                        let _ = answer.send(self.answer(&verb));
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => {
                        if Arc::strong_count(&self.memory) > 1 {
                            // What cannot be read is lost with the machine.
                            let _ = self.bring_in();
                        }
                        return;
                    }
                }
            }
        }
    }

    fn wait(&self) {
        let mut fds = vec![PollFd::new(&self.bell, PollFlags::IN)];
        if let Some(out) = &self.out {
            fds.push(PollFd::from_borrowed_fd(
                out.userfault.as_fd(),
                PollFlags::IN,
            ));
        }
        // Woken for nothing is as good.
        let _ = poll(&mut fds, None);
    }

    fn answer(&mut self, verb: &Verb) -> Result<SwapStatus, SwapError> {
        match verb {
            Verb::Out => self.bring_out()?,
            Verb::In => self.bring_in()?,
            Verb::Status => {}
        }
        Ok(self.status())
    }

    fn ranges(&self) -> Vec<Range<u64>> {
        let regions = self.memory.regions().iter();
        regions
            .map(|region| region.host_address()..region.host_address() + region.range().len())
            .collect()
    }

    fn status(&self) -> SwapStatus {
        let ranges = self.ranges();
        let resident = ranges.iter().map(resident).sum();
        let mut status = SwapStatus {
            out: self.out.is_some(),
            resident,
            ..self.status.clone()
        };
        if let Some(out) = &self.out {
            status.swapped = out.pieces.iter().map(Piece::bytes).sum();
            status.faults = out.faults;
            status.lost = out.lost;
            status.zeros = out.zeros;
            let whole: u64 = ranges.iter().map(|range| range.end - range.start).sum();
            let taken = out
                .pieces
                .iter()
                .map(|piece| piece.range.end - piece.range.start);
            status.left_out = whole - taken.sum::<u64>();
        }
        status
    }

    fn bring_out(&mut self) -> Result<(), SwapError> {
        let began = Instant::now();
        if self.out.is_none() {
            self.out = Some(Out::begin((self.file)()?, &self.ranges())?);
        }
        let Some(out) = &mut self.out else {
            return Err(SwapError::Ended);
        };
        out.zeros = 0;
        match out.take_all() {
            Ok(bytes) => {
                self.status.went_out = (bytes, began.elapsed());
                Ok(())
            }
            Err(error) => {
                self.bring_in()?;
                Err(error)
            }
        }
    }

    fn bring_in(&mut self) -> Result<(), SwapError> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let began = Instant::now();
        let bytes = out.bring_all()?;
        out.end();
        (self.status.faults, self.status.lost) = (out.faults, out.lost);
        self.status.zeros = out.zeros;
        self.status.came_in = (bytes, began.elapsed());
        self.out = None;
        Ok(())
    }
}

/// How much of a range is in memory.
fn resident(range: &Range<u64>) -> u64 {
    let pages = userfault::present(range).unwrap_or_default();
    pages.iter().filter(|present| **present).count() as u64 * PAGE
}

/// Memory that is out.
struct Out {
    pieces: Vec<Piece>,
    userfault: Userfault,
    staging: Staging,
    file: File,
    /// Faults that were heard of while they could not be served.
    waiting: Vec<u64>,
    faults: u64,
    lost: u64,
    zeros: u64,
}

impl Out {
    fn begin(file: File, ranges: &[Range<u64>]) -> Result<Self, SwapError> {
        let refused = |error: Errno| SwapError::Userfault(error.into());
        let maps = fs::read_to_string("/proc/self/maps").map_err(SwapError::Userfault)?;
        let userfault = Userfault::new().map_err(refused)?;
        let staging = Staging::new().map_err(refused)?;
        let pieces = pieces::private(&maps, ranges);
        for piece in &pieces {
            // What was registered before one is refused goes with the descriptor: it is all there yet.
            userfault.register(&piece.range).map_err(refused)?;
        }
        Ok(Self {
            pieces,
            userfault,
            staging,
            file,
            waiting: Vec::new(),
            faults: 0,
            lost: 0,
            zeros: 0,
        })
    }

    /// Everything that is in memory goes out; how many bytes that were.
    fn take_all(&mut self) -> Result<u64, SwapError> {
        let mut bytes = 0;
        for number in 0..self.pieces.len() {
            let whole = self.pieces[number].range.clone();
            let batch = Staging::PAGES as u64 * PAGE;
            let mut at = whole.start;
            while at < whole.end {
                let range = at..whole.end.min(at + batch);
                bytes += self.take(number, &range)?;
                self.serve();
                at = range.end;
            }
        }
        Ok(bytes)
    }

    /// A batch goes out.
    fn take(&mut self, number: usize, range: &Range<u64>) -> Result<u64, SwapError> {
        let refused = |error: Errno| SwapError::Userfault(error.into());
        if resident(range) == 0 {
            return Ok(0);
        }
        let taken = self.staging.take(range);
        let here = self.staging.present().map_err(refused)?;
        let runs = runs(&here, |page| is_zero(self.staging.bytes(page..page + 1)));
        let written = taken
            .map_err(refused)
            .and_then(|()| self.write(number, range, &runs));
        if written.is_err() {
            self.put_back(range.start, &here);
        } else {
            for run in &runs {
                self.pieces[number].set(&addresses(range.start, run), true);
            }
            let pages: usize = runs.iter().map(ExactSizeIterator::len).sum();
            let all = here.iter().filter(|here| **here).count();
            self.zeros += (all - pages) as u64 * PAGE;
        }
        self.staging.clear().map_err(refused)?;
        written.map(|()| here.iter().filter(|here| **here).count() as u64 * PAGE)
    }

    fn write(
        &self,
        number: usize,
        range: &Range<u64>,
        runs: &[Range<usize>],
    ) -> Result<(), SwapError> {
        for run in runs {
            let place = self.pieces[number].place(addresses(range.start, run).start);
            let bytes = self.staging.bytes(run.clone());
            self.file
                .write_all_at(bytes, place)
                .map_err(SwapError::Write)?;
        }
        Ok(())
    }

    /// What was taken goes back to where it was. Nobody is served meanwhile: they would find zeros.
    fn put_back(&mut self, start: u64, here: &[bool]) {
        for run in runs(here, |_| false) {
            for page in run {
                let at = start + page as u64 * PAGE;
                while self.userfault.copy(at, self.staging.bytes(page..page + 1))
                    == Err(Errno::AGAIN)
                {
                    self.hear();
                }
            }
        }
    }

    /// Takes note of all that the kernel has to tell.
    fn hear(&mut self) {
        while let Some(event) = self.userfault.next() {
            match event {
                Event::Fault(at) => self.waiting.push(at & !(PAGE - 1)),
                Event::Removed(start, end) => {
                    for piece in &mut self.pieces {
                        piece.set(&(start..end), false);
                    }
                }
            }
        }
    }

    /// Answers whoever waits.
    fn serve(&mut self) {
        self.hear();
        while let Some(at) = self.waiting.pop() {
            self.faults += 1;
            let piece = self
                .pieces
                .iter()
                .position(|piece| piece.range.contains(&at));
            let run = piece.map(|number| (number, self.pieces[number].run(at, READ_AHEAD)));
            match run {
                Some((number, run)) if !run.is_empty() => {
                    if self.bring(number, &run).is_err() {
                        self.lose(number, at);
                    }
                }
                Some(_) | None => self.retry(at, |userfault| userfault.zero(at)),
            }
            self.hear();
        }
    }

    /// Brings pages back that are in the file.
    fn bring(&mut self, number: usize, run: &Range<u64>) -> Result<(), SwapError> {
        let len = usize::try_from(run.end - run.start).unwrap_or_default();
        let mut bytes = vec![0; len];
        let place = self.pieces[number].place(run.start);
        self.file
            .read_exact_at(&mut bytes, place)
            .map_err(SwapError::Read)?;
        for (page, at) in bytes.chunks(PAGE_LEN).zip((run.start..).step_by(PAGE_LEN)) {
            // The guest may have given the page away while another was brought.
            if self.pieces[number].run(at, 1).is_empty() {
                self.retry(at, |userfault| userfault.zero(at));
            } else {
                self.retry(at, |userfault| userfault.copy(at, page));
            }
            self.pieces[number].set(&(at..at + PAGE), false);
        }
        Ok(())
    }

    /// Fills a page, however often the kernel wants to be heard before. Where one is there already, who
    /// waits for it is told.
    fn retry(&mut self, at: u64, fill: impl Fn(&Userfault) -> Result<(), Errno>) {
        loop {
            match fill(&self.userfault) {
                Err(Errno::AGAIN) => self.hear(),
                // Memory is short: the host makes room, or kills somebody.
                Err(Errno::NOMEM) => thread::yield_now(),
                Ok(()) => return,
                Err(_) => {
                    // The range is registered, so this cannot fail.
                    let _ = self.userfault.wake(at);
                    return;
                }
            }
        }
    }

    /// A page cannot be read: who waits for it learns that, and is not left waiting for good.
    fn lose(&mut self, number: usize, at: u64) {
        self.lost += 1;
        self.pieces[number].set(&(at..at + PAGE), false);
        self.retry(at, |userfault| userfault.poison(at));
    }

    /// Everything that is in the file comes back; how many bytes that were.
    fn bring_all(&mut self) -> Result<u64, SwapError> {
        let mut bytes = 0;
        for number in 0..self.pieces.len() {
            while let Some(at) = self.pieces[number].next(self.pieces[number].range.start) {
                let run = self.pieces[number].run(at, Staging::PAGES);
                self.bring(number, &run)?;
                bytes += run.end - run.start;
                self.serve();
            }
        }
        Ok(bytes)
    }

    /// Lets go of the memory, all of which is back.
    fn end(&mut self) {
        for piece in &self.pieces {
            while self.userfault.unregister(&piece.range) == Err(Errno::AGAIN) {}
        }
        // Who gives memory back just now waits to be heard of.
        self.hear();
    }
}

fn addresses(start: u64, pages: &Range<usize>) -> Range<u64> {
    start + pages.start as u64 * PAGE..start + pages.end as u64 * PAGE
}

/// The runs of pages that are here and not to be skipped.
fn runs(here: &[bool], skipped: impl Fn(usize) -> bool) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (page, _) in here
        .iter()
        .enumerate()
        .filter(|(page, here)| **here && !skipped(*page))
    {
        match runs.last_mut() {
            Some(run) if run.end == page => run.end += 1,
            _ => runs.push(page..page + 1),
        }
    }
    runs
}

fn is_zero(page: &[u8]) -> bool {
    page.iter().all(|byte| *byte == 0)
}
