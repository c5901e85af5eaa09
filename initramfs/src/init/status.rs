//! Handing a command's status on to whoever runs the machine.

use super::call::Call;
use super::program::{Operation, Place, Value, Word};
use super::{Init, PATIENCE, errno, linux};
use crate::initramfs::Status;

/// The port of the debug-exit device, as in QEMU's `isa-debug-exit`.
const DEBUG_EXIT_PORT: u64 = 0xf4;

/// Ports are named for the number of the console device and their own in it: `vport2p1`. So many
/// of either are tried, from the highest; the numbers are those of Linux' `virtio` bus, on which
/// there are other devices, too.
const CONSOLES: u32 = 32;
const PORTS: u32 = 4;
/// The bytes that each path to a port's name has in its table, and each to the port itself.
const NAME_STRIDE: usize = 40;
const PORT_STRIDE: usize = 16;
/// The longest line that is read, with all that a line of a port's name may have.
const LINE: usize = 256;

impl Init {
    /// Opens what takes the status. It is done early: whatever fails from here on can be told.
    pub(super) fn open_status(&mut self, status: &Status) {
        match status {
            Status::Port(name) => self.open_port(name),
            Status::Device(path) => {
                let file = self.open_when_there(path, "the status");
                self.program.store(self.port, file);
            }
            Status::DebugExit | Status::Nowhere => {}
        }
    }

    /// Looks through the names of all ports (Linux `Documentation/ABI/testing/sysfs-class-virtio`
    /// and `drivers/char/virtio_console.c`, `show_port_name`): the links by their names are made by
    /// a daemon that is not here.
    fn open_port(&mut self, name: &str) {
        let ports = || (0..CONSOLES).flat_map(|of| (0..PORTS).map(move |port| (of, port)));
        let last = u64::from(CONSOLES * PORTS) - 1;
        let names =
            ports().map(|(of, port)| format!("/sys/class/virtio-ports/vport{of}p{port}/name"));
        let names = self.program.texts(NAME_STRIDE, names);
        let devices = ports().map(|(of, port)| format!("/dev/vport{of}p{port}"));
        let devices = self.program.texts(PORT_STRIDE, devices);
        let number = self.program.number(0);
        let (again, next, opened) = (
            self.program.here(),
            self.program.label(),
            self.program.label(),
        );

        self.program.store(number, last);
        let each = self.program.here();
        let path = self.nth(names, number, NAME_STRIDE);
        self.unless_line_is(path, name, next);
        let path = self.nth(devices, number, PORT_STRIDE);
        let file = self.open_for_writing(path);
        self.program.then(file, opened);
        self.program.bind(next);
        let round_over = self.program.label();
        self.program.count_down(number, round_over);
        self.program.jump(each);

        self.program.bind(round_over);
        let given_up = self.program.label();
        let patience = self.patience(PATIENCE);
        self.retry(again, patience, given_up);
        self.program.bind(given_up);
        self.say(&format!(
            "firstlight: no virtio port {name} for the status within {PATIENCE} s\n"
        ));
        self.program.jump(self.end);
        self.program.bind(opened);
        self.program.store(self.port, file);
    }

    /// The address of a table's line.
    fn nth(&mut self, table: Place, number: Place, stride: usize) -> Value {
        let sum = [
            table.into(),
            Value::Contents(number),
            (stride as u64).into(),
        ];
        self.program.step(Operation::MultiplyAdd, &sum).into()
    }

    /// Goes on at `otherwise` unless the file at `path` holds `text` and the end of a line.
    fn unless_line_is(&mut self, path: Value, text: &str, otherwise: super::Label) {
        let line = format!("{text}\n");
        let words = line.as_bytes().chunks(8).map(|bytes| {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = *from;
            }
            u64::from_le_bytes(word)
        });
        let buffer = self.program.words(&[Word::Number(0); LINE / 8]);
        let flags = (linux::O_RDONLY | linux::O_CLOEXEC).into();
        let open = [linux::AT_FDCWD, path, flags];
        let file = self.program.call(Call::Openat, &open);
        self.program.on_error(file, otherwise);
        // What an earlier and longer line left behind this one's end.
        self.program
            .store(buffer.behind((line.len() - 1) / 8 * 8), 0);
        let read = [file.into(), buffer.into(), (LINE as u64).into()];
        let read = self.program.call(Call::Read, &read);
        self.program.call(Call::Close, &[file.into()]);
        self.program
            .unless_equal(read, line.len() as u64, otherwise);
        for (number, word) in words.enumerate() {
            let read = Value::Contents(buffer.behind(number * 8));
            self.program.unless_equal(read, word, otherwise);
        }
    }

    /// Hands the status on, where what takes it is open.
    pub(super) fn hand_on(&mut self, status: &Status) {
        let number = Value::Contents(self.status);
        match status {
            Status::Port(_) | Status::Device(_) => {
                let lines = (0..=u8::MAX).map(|number| format!("{number}\n"));
                let lines = errno::lines(&mut self.program, lines);
                let port = Value::Contents(self.port);
                errno::write_line(&mut self.program, port, lines, number);
            }
            Status::DebugExit => {
                let refused = self.program.label();
                let allow = [DEBUG_EXIT_PORT.into(), 1.into(), 1.into()];
                let allow = self.program.call(Call::Ioperm, &allow);
                self.program.on_error(allow, refused);
                self.program.step(Operation::DebugExit, &[number]);
                self.program.bind(refused);
            }
            Status::Nowhere => {}
        }
    }
}
