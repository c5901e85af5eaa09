//! A back end of ours at the other end of the socket, and others that are not to be trusted.

use super::*;
use crate::virtio::VhostUser;
use crate::virtio::backend::Stopping;
use crate::virtio::runner::Interrupt;
use firstlight_base::{GuestMem, MIB};
use firstlight_devices::virtio::fs::Fs;
use firstlight_devices::virtio::{Cause, Chain, Layout, Start};
use firstlight_load::Backing;
use rustix::event::{Timespec, poll};
use std::error::Error;
use std::io::{Read, Write};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

const TAG: &str = "tag";
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFER: u64 = 0x4000;

fn fs() -> ForeignKind {
    ForeignKind::Fs(Tag::new(TAG).unwrap())
}

/// An answer to a request of that number.
fn answer(request: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(body.len()).unwrap();
    [[request, 5, len].map(u32::to_le_bytes).as_flattened(), body].concat()
}

fn number(request: u32, number: u64) -> Vec<u8> {
    answer(request, &number.to_le_bytes())
}

/// What comes of a back end that says just this, and ends where that is `ended`.
fn said(kind: ForeignKind, words: &[u8], ended: bool) -> Result<VirtioDevice, FrontEndError> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(words).unwrap();
    if ended {
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
    }
    attach(ours, kind, 0)
}

/// Answers every request by eight times the letter `x`.
struct Letters;

impl Backend for Letters {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |chain, memory| {
            let mut writer = chain.writer(memory);
            writer.write_all(b"xxxxxxxx")?;
            Ok(writer.written())
        })
    }
}

/// What interrupts came, and whether the device is broken.
#[derive(Default)]
struct Heard(Mutex<(Vec<Cause>, bool)>);

impl Interrupt for Heard {
    fn raise(&self, cause: Cause) {
        self.0.lock().unwrap().0.push(cause);
    }

    fn break_down(&self, _error: &dyn Error) {
        self.0.lock().unwrap().1 = true;
    }
}

/// A machine with a device that is served elsewhere.
struct World {
    memory: Arc<GuestMemory>,
    bells: Vec<Arc<Bell>>,
    device: VirtioDevice,
    heard: Heard,
}

impl World {
    fn new(memory: &Arc<GuestMemory>, device: VirtioDevice) -> Self {
        let bells = (0..2).map(|_| Arc::new(Bell::new().unwrap()));
        Self {
            memory: Arc::clone(memory),
            bells: bells.collect(),
            device,
            heard: Heard::default(),
        }
    }

    /// The driver has set the second of two queues up.
    fn hand_over(&mut self) -> Result<(), FrontEndError> {
        let setup = QueueSetup {
            size: 8,
            descriptors: Gpa::new(DESCRIPTORS),
            driver: Gpa::new(AVAILABLE),
            device: Gpa::new(USED),
            layout: Layout::Split,
            event_idx: false,
            indirect: false,
        };
        let start = Start {
            features: Features::VERSION_1.bits(),
            queues: vec![None, Some(setup)],
        };
        self.device.backend.hand_over(&Handover {
            start: &start,
            memory: &self.memory,
            bells: &self.bells,
        })
    }

    /// Waits for the back end, and has the device look at what came.
    fn wait(&mut self) {
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        let mut waits = self.device.backend.waits();
        assert!(poll(&mut waits, Some(&patience)).unwrap() > 0);
        let ready: Vec<_> = waits.iter().map(PollFd::revents).collect();
        drop(waits);
        let mut io = Io {
            memory: &self.memory,
            queues: &mut [],
            bells: &self.bells,
            interrupt: &self.heard,
            stopping: Stopping::Flag(&AtomicBool::new(false)),
            chain: &mut Chain::new(),
        };
        self.device.backend.ready(&ready, &mut io).unwrap();
    }
}

fn memory() -> Arc<GuestMemory> {
    let ram = GpaRange::new(Gpa::new(0), MIB).unwrap();
    Arc::new(GuestMemory::allocate(&[ram], Backing::Shared).unwrap())
}

#[test]
fn a_back_end_serves_what_the_driver_asks_until_it_is_stopped() {
    let memory = memory();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = VirtioDevice::new("letters", Fs::new(Tag::new(TAG).unwrap()), Letters);
    let back_end = VhostUser::start(served, &memory, theirs).unwrap();
    let mut world = World::new(&memory, attach(ours, fs(), 0).unwrap());
    assert_eq!(world.device.chip.queue_sizes(), [QUEUE, QUEUE]);
    let offered = world.device.chip.queue_features();
    assert_eq!(offered, Features::all() - Features::RING_PACKED);
    for number in 1..=2 {
        let descriptor = [BUFFER.to_le_bytes(), (8 | 2_u64 << 32).to_le_bytes()].concat();
        memory.write(Gpa::new(DESCRIPTORS), &descriptor).unwrap();
        memory.write(Gpa::new(BUFFER), &[0; 8]).unwrap();
        memory.store_u16(Gpa::new(AVAILABLE + 2), number).unwrap();
        match number {
            1 => world.hand_over().unwrap(),
            _ => world.bells[1].ring(),
        }
        world.wait();
        assert_eq!(memory.load_u16(Gpa::new(USED + 2)), Ok(number));
        let mut bytes = [0; 8];
        memory.read(Gpa::new(BUFFER), &mut bytes).unwrap();
        assert_eq!(&bytes, b"xxxxxxxx");
    }
    let causes = &world.heard.0.lock().unwrap().0;
    assert_eq!(causes[..], [Cause::Queue(1), Cause::Queue(1)]);
    world.device.backend.stopped();
    drop(world.device);
    drop(back_end);
}

/// A process of ours, on a thread: the socket to it, and what comes when it has ended.
fn of_our_own() -> (UnixStream, std::thread::JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let serve = move || {
        let served = VirtioDevice::new("letters", Fs::new(Tag::new(TAG).unwrap()), Letters);
        crate::virtio::serve(served, theirs).unwrap();
    };
    (ours, std::thread::spawn(serve))
}

#[test]
fn one_of_our_own_is_handed_the_memory_and_begins_anew_after_each_reset() {
    let memory = memory();
    let (socket, process) = of_our_own();
    let chip = Fs::new(Tag::new(TAG).unwrap());
    let front_end = FrontEnd::of_our_own(socket, &chip).unwrap();
    let mut world = World::new(&memory, VirtioDevice::new("own", chip, front_end));
    for _ in 0..2 {
        let descriptor = [BUFFER.to_le_bytes(), (8 | 2_u64 << 32).to_le_bytes()].concat();
        memory.write(Gpa::new(DESCRIPTORS), &descriptor).unwrap();
        memory.write(Gpa::new(BUFFER), &[0; 8]).unwrap();
        memory.store_u16(Gpa::new(USED + 2), 0).unwrap();
        memory.store_u16(Gpa::new(AVAILABLE + 2), 1).unwrap();
        world.hand_over().unwrap();
        world.wait();
        assert_eq!(memory.load_u16(Gpa::new(USED + 2)), Ok(1));
        let mut bytes = [0; 8];
        memory.read(Gpa::new(BUFFER), &mut bytes).unwrap();
        assert_eq!(&bytes, b"xxxxxxxx");
        world.device.backend.stopped();
    }
    assert_eq!(world.heard.0.lock().unwrap().0, [Cause::Queue(1); 2]);
    drop(world);
    process.join().unwrap();
}

#[test]
fn a_queue_that_one_of_our_own_cannot_serve_breaks_the_device_until_it_is_reset() {
    let memory = memory();
    let (socket, process) = of_our_own();
    let chip = Fs::new(Tag::new(TAG).unwrap());
    let front_end = FrontEnd::of_our_own(socket, &chip).unwrap();
    let mut world = World::new(&memory, VirtioDevice::new("own", chip, front_end));
    // More requests than the queue has entries.
    memory.store_u16(Gpa::new(AVAILABLE + 2), 0x8000).unwrap();
    world.hand_over().unwrap();
    world.wait();
    assert!(std::mem::take(&mut world.heard.0.lock().unwrap().1));
    world.device.backend.stopped();
    memory.store_u16(Gpa::new(AVAILABLE + 2), 0).unwrap();
    world.hand_over().unwrap();
    world.device.backend.stopped();
    assert!(!world.heard.0.lock().unwrap().1);
    drop(world);
    process.join().unwrap();
}

#[test]
fn a_queue_in_no_memory_breaks_a_device_of_our_own_until_it_is_reset() {
    let far = GpaRange::new(Gpa::new(MIB), MIB).unwrap();
    let elsewhere = Arc::new(GuestMemory::allocate(&[far], Backing::Shared).unwrap());
    let (socket, process) = of_our_own();
    let chip = Fs::new(Tag::new(TAG).unwrap());
    let front_end = FrontEnd::of_our_own(socket, &chip).unwrap();
    let mut world = World::new(&elsewhere, VirtioDevice::new("own", chip, front_end));
    let error = world.hand_over().unwrap_err();
    assert!(matches!(error, FrontEndError::Outside), "{error}");
    world.device.backend.stopped();
    world.memory = memory();
    world.hand_over().unwrap();
    world.device.backend.stopped();
    assert!(!world.device.backend.waits().is_empty());
    drop(world);
    process.join().unwrap();
}

#[test]
fn a_back_end_that_ends_breaks_its_device_and_nothing_else() {
    let memory = memory();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&number(1, 1 << 32)).unwrap();
    let mut world = World::new(&memory, attach(ours, fs(), 0).unwrap());
    world.hand_over().unwrap();
    let mut first = [0; 12];
    theirs.read_exact(&mut first).unwrap();
    assert_eq!(first[..4], 1_u32.to_le_bytes());
    drop(theirs);
    world.wait();
    assert!(world.heard.0.lock().unwrap().1);
    assert!(world.device.backend.waits().is_empty());
    world.device.backend.stopped();
    let again = world.hand_over().unwrap_err();
    assert!(matches!(again, FrontEndError::Lost(_)), "{again}");
}

#[test]
fn what_is_no_answer_is_refused_by_name() {
    let nonsense: [&[u8]; 6] = [
        &number(2, 1 << 32),
        &answer(1, &[0; 7]),
        &answer(1, &[]),
        &[1, 1, 8].map(u32::to_le_bytes).concat(),
        &[1, 6, 8].map(u32::to_le_bytes).concat(),
        &[1, 5, u32::MAX].map(u32::to_le_bytes).concat(),
    ];
    for words in nonsense {
        let error = said(fs(), words, true).unwrap_err();
        assert!(matches!(error, FrontEndError::Nonsense(1)), "{words:x?}");
    }
    let whole = number(1, 1 << 32);
    for len in 0..whole.len() {
        let error = said(fs(), &whole[..len], true).unwrap_err();
        assert!(matches!(error, FrontEndError::Lost(_)), "{len}");
    }
}

#[test]
fn one_that_says_nothing_is_not_waited_for_long() {
    let error = said(fs(), &[], false).unwrap_err();
    assert!(error.to_string().contains("within 2 seconds"));
}

#[test]
fn what_a_device_takes_and_the_back_end_lacks_is_named() {
    let lacks = |kind, words: &[u8]| match said(kind, words, true) {
        Err(FrontEndError::Lacks(what)) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(lacks(fs(), &number(1, 0)), "virtio 1");
    let block = ForeignKind::Block;
    assert_eq!(lacks(block, &number(1, 1 << 32)), "a configuration");
    let features = number(1, 1 << 32 | HAS_FEATURES | BLOCK_MQ);
    let without = [&*features, &number(15, 0)].concat();
    assert_eq!(lacks(block, &without), "a configuration");
    let config = |queues: u16| {
        let mut config = [0; 12 + BLOCK_CONFIG];
        config[12 + 34..12 + 36].copy_from_slice(&queues.to_le_bytes());
        [&*features, &number(15, HAS_CONFIG), &answer(24, &config)].concat()
    };
    for queues in [0, 17, u16::MAX] {
        assert_eq!(lacks(block, &config(queues)), "1 to 16 queues");
    }
    let device = said(block, &config(3), true).unwrap();
    assert_eq!(device.chip.queue_sizes(), [QUEUE; 3]);
    let short = [&*features, &number(15, HAS_CONFIG), &answer(24, &[0; 12])].concat();
    let error = said(block, &short, true).unwrap_err();
    assert!(matches!(error, FrontEndError::Nonsense(24)));
}

#[test]
fn a_card_offers_what_takes_no_control_queue_and_has_its_address() {
    // Everything: what takes a control queue, a state of the link and a size of frames among it.
    let words = [number(1, u64::MAX), number(15, 0)].concat();
    let card = |mac, number| {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&words).unwrap();
        attach(ours, ForeignKind::Net(mac), number).unwrap().chip
    };
    let address = [2, 0, 0, 0, 0, 9];
    let chip = card(Some(address), 0);
    assert_eq!(chip.kind(), DeviceKind::Net);
    assert_eq!(chip.queue_sizes(), [QUEUE; 2]);
    let merged_tso_and_checksums = 0xff83;
    assert_eq!(chip.features(), merged_tso_and_checksums | NET_MAC);
    let mut config = [0xff; 8];
    chip.read_config(0, &mut config);
    assert_eq!(config[..6], address);
    let own = |number| {
        let mut own = [0; 6];
        card(None, number).read_config(0, &mut own);
        own
    };
    assert_eq!(own(1), address_of(1));
    assert_ne!(own(0), own(1));
    let bare = said(ForeignKind::Net(None), &number(1, 1 << 32), true).unwrap();
    assert_eq!(bare.chip.features(), NET_MAC);
}

#[test]
fn a_queue_in_no_memory_and_memory_of_ones_own_are_not_handed_over() {
    let ram = GpaRange::new(Gpa::new(0), MIB).unwrap();
    let private = Arc::new(GuestMemory::allocate(&[ram], Backing::Private).unwrap());
    let far = GpaRange::new(Gpa::new(MIB), MIB).unwrap();
    let elsewhere = Arc::new(GuestMemory::allocate(&[far], Backing::Shared).unwrap());
    for memory in [private, elsewhere] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&number(1, 1 << 32)).unwrap();
        let mut world = World::new(&memory, attach(ours, fs(), 0).unwrap());
        let error = world.hand_over().unwrap_err();
        assert!(matches!(error, FrontEndError::Outside), "{error}");
    }
}

#[test]
fn where_nobody_listens_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, []).unwrap();
    for socket in [folder.path().join("none"), path] {
        let wanted = ForeignDevice {
            kind: ForeignKind::Block,
            socket: socket.clone(),
        };
        let error = foreign(&wanted, 0).unwrap_err().to_string();
        assert!(error.contains("cannot connect to the back end"), "{error}");
        assert!(check(&socket).is_err());
    }
}
