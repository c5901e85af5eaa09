//! QEMU's half of the protocol, as far as it takes to use a device.

use super::*;
use firstlight_base::{GuestMem, MIB};
use firstlight_devices::virtio::QueueError;
use firstlight_devices::virtio::rng::Rng;
use firstlight_load::Backing;
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;

/// Where QEMU has the guest's memory.
const USER: u64 = 0x7f00_0000_0000;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const BUFFER: u64 = 0x4000;

/// Answers every request by eight times the letter `x`.
struct Letters {
    served: usize,
}

impl Backend for Letters {
    fn rung(&mut self, queue: usize, io: &mut Io<'_>) -> Result<(), QueueError> {
        io.serve(queue, |chain, memory| {
            self.served += 1;
            let mut writer = chain.writer(memory);
            writer.write_all(b"xxxxxxxx")?;
            Ok(writer.written())
        })
    }
}

struct Qemu {
    socket: UnixStream,
    memory: Arc<GuestMemory>,
    kick: OwnedFd,
    call: OwnedFd,
    device: Option<VhostUser>,
}

impl Qemu {
    fn new() -> Self {
        let ram = GpaRange::new(Gpa::new(0), MIB).unwrap();
        let memory = Arc::new(GuestMemory::allocate(&[ram], Backing::Private).unwrap());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let device = VirtioDevice::new("letters", Rng::new(), Letters { served: 0 });
        let device = VhostUser::start(device, &memory, theirs).unwrap();
        let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        Self {
            socket: ours,
            memory,
            kick: event(),
            call: event(),
            device: Some(device),
        }
    }

    fn send(&self, request: u32, body: &[u8], descriptor: Option<BorrowedFd<'_>>) {
        let len = u32::try_from(body.len()).unwrap();
        let header = [request, 1, len].map(u32::to_le_bytes).concat();
        let rights = Vec::from_iter(descriptor);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !rights.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
        }
        let parts = [IoSlice::new(&header), IoSlice::new(body)];
        sendmsg(&self.socket, &parts, &mut control, SendFlags::empty()).unwrap();
    }

    fn answer(&mut self, len: usize) -> Vec<u8> {
        let mut answer = vec![0; 12 + len];
        self.socket.read_exact(&mut answer).unwrap();
        answer.split_off(12)
    }

    fn set_up(&self, next: u32) {
        self.send(2, &(1_u64 << 32).to_le_bytes(), None);
        let table = [1_u64, 0, MIB, USER, 0].map(u64::to_le_bytes).concat();
        self.send(5, &table, None);
        self.send(8, &[0, 8].map(u32::to_le_bytes).concat(), None);
        let parts = [0, DESCRIPTORS, USED, AVAILABLE, 0];
        let mut parts = parts.map(|at| if at == 0 { 0 } else { USER + at });
        parts[0] = 0;
        self.send(9, &parts.map(u64::to_le_bytes).concat(), None);
        self.send(10, &[0, next].map(u32::to_le_bytes).concat(), None);
        self.send(13, &[0; 8], Some(self.call.as_fd()));
        self.send(12, &[0; 8], Some(self.kick.as_fd()));
    }

    /// The driver makes its request of that number, which is the same buffer each time.
    fn offer(&self, number: u16) {
        let descriptor = [BUFFER.to_le_bytes(), (8 | 2_u64 << 32).to_le_bytes()].concat();
        self.memory
            .write(Gpa::new(DESCRIPTORS), &descriptor)
            .unwrap();
        let index = Gpa::new(AVAILABLE + 2);
        self.memory.store_u16(index, number).unwrap();
    }

    fn ring(&self) {
        rustix::io::write(&self.kick, &1_u64.to_ne_bytes()).unwrap();
    }

    /// Waits for an interrupt, and says how many requests have come back.
    fn returned(&self) -> u16 {
        let mut fds = [PollFd::new(&self.call, PollFlags::IN)];
        let patience = Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        };
        poll(&mut fds, Some(&patience)).unwrap();
        let mut count = [0; 8];
        rustix::io::read(&self.call, &mut count).unwrap();
        self.memory.load_u16(Gpa::new(USED + 2)).unwrap()
    }

    /// Where the queue stands, when it has been stopped.
    fn stop(&mut self) -> Vec<u8> {
        self.send(11, &[0; 8], None);
        self.answer(8)
    }
}

#[test]
fn a_queue_is_served_and_goes_on_where_it_was_stopped() {
    let mut qemu = Qemu::new();
    qemu.send(1, &[], None);
    let features = u64::from_le_bytes(qemu.answer(8).try_into().unwrap());
    assert_eq!(features, 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28);
    qemu.send(15, &[], None);
    assert_eq!(qemu.answer(8), [0; 8]);
    // A request that was there before the doorbell was known.
    qemu.offer(1);
    qemu.set_up(0);
    assert_eq!(qemu.returned(), 1);
    let mut bytes = [0; 8];
    qemu.memory.read(Gpa::new(BUFFER), &mut bytes).unwrap();
    assert_eq!(&bytes, b"xxxxxxxx");
    qemu.offer(2);
    qemu.ring();
    assert_eq!(qemu.returned(), 2);
    assert_eq!(qemu.stop(), [0, 0, 0, 0, 2, 0, 0, 0]);
    qemu.offer(3);
    qemu.set_up(2);
    assert_eq!(qemu.returned(), 3);
    assert_eq!(qemu.stop(), [0, 0, 0, 0, 3, 0, 0, 0]);
}

/// What comes of a table of memory with these fields, and these files, where memory is handed over.
fn handed(fields: [u64; 4], files: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let device = VirtioDevice::new("letters", Rng::new(), Letters { served: 0 });
    let process = thread::spawn(move || serve(device, theirs).unwrap());
    let [at, len, user, offset] = fields;
    let body = [1, at, len, user, offset].map(u64::to_le_bytes).concat();
    let len = u32::try_from(body.len()).unwrap();
    let header = [5, 1, len].map(u32::to_le_bytes).concat();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(files.is_empty() || control.push(SendAncillaryMessage::ScmRights(files)));
    let parts = [IoSlice::new(&header), IoSlice::new(&body)];
    sendmsg(&ours, &parts, &mut control, SendFlags::empty()).unwrap();
    // Whoever goes on answers.
    let question = [1_u32, 1, 0].map(u32::to_le_bytes).concat();
    let answered = (&ours)
        .write_all(&question)
        .and_then(|()| (&ours).read(&mut [0; 64]));
    drop(ours);
    process.join().unwrap();
    answered
}

#[test]
fn memory_that_is_not_there_is_not_mapped_and_ends_the_device() {
    let file = rustix::fs::memfd_create("ram", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&file, MIB).unwrap();
    let file = file.as_fd();
    assert_eq!(handed([0, MIB, USER, 0], &[file]).unwrap(), 20);
    for (fields, files) in [
        ([0, MIB, USER, 0], &[][..]),
        ([0, MIB, USER, 0], &[file, file]),
        ([0, MIB + 0x1000, USER, 0], &[file]),
        ([0, MIB, USER, 0x1000], &[file]),
        ([0, MIB, USER, u64::MAX - 0xfff], &[file]),
        ([0, 0, USER, 0], &[file]),
        ([0x10, 0x1000, USER, 0], &[file]),
        ([0, 0x10, USER, 0], &[file]),
        ([u64::MAX - 0xfff, 0x2000, USER, 0], &[file]),
    ] {
        let gone = handed(fields, files);
        assert!(!matches!(gone, Ok(1..)), "{fields:x?}");
    }
}

#[test]
fn what_is_nonsense_ends_the_device_and_nothing_else() {
    let long = [1, 1, u32::MAX].map(u32::to_le_bytes).concat();
    let cases: [(u32, Vec<u8>); 6] = [
        (5, vec![9, 0, 0, 0, 0, 0, 0, 0]),
        (8, vec![9, 0, 0, 0, 8, 0, 0, 0]),
        (8, vec![0, 0, 0, 0, 0, 0, 1, 0]),
        (9, vec![0; 40]),
        (11, vec![1, 0, 0, 0, 0, 0, 0, 0]),
        (12, vec![0; 8]),
    ];
    for (request, body) in cases {
        let mut qemu = Qemu::new();
        qemu.send(request, &body, None);
        assert_eq!(qemu.socket.read(&mut [0]).unwrap(), 0, "{request}");
        drop(qemu.device.take());
    }
    let mut qemu = Qemu::new();
    qemu.socket.write_all(&long).unwrap();
    assert_eq!(qemu.socket.read(&mut [0]).unwrap(), 0);
}
