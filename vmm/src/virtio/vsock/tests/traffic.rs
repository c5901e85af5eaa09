//! Several connections at once, with pieces, buffers and pauses of all sizes.

use super::*;

/// Numbers that look random, and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        // Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// A connection from both ends.
struct Talk {
    program: UnixStream,
    pair: Pair,
    /// All that either side says.
    to_guest: Vec<u8>,
    to_program: Vec<u8>,
    written: usize,
    sent: usize,
    guest_read: usize,
    program_read: Vec<u8>,
    came: Vec<u8>,
    /// What the guest knows of the host's room.
    acknowledged: usize,
}

impl Talk {
    fn new(world: &mut World, number: u32, dice: &mut Dice) -> Self {
        let program = world.program(&format!("CONNECT {number}\n"));
        let request = world.one(Operation::Request);
        let pair = pair_of(&request);
        world.send(pair, Operation::Response, &[]);
        let mut talk = Self {
            program,
            pair,
            to_guest: noise(dice.below(300_000)),
            to_program: noise(dice.below(300_000)),
            written: 0,
            sent: 0,
            guest_read: 0,
            program_read: Vec::new(),
            came: Vec::new(),
            acknowledged: 0,
        };
        let words = format!("OK {}\n", pair.host);
        let mut line = vec![0; words.len()];
        talk.program.read_exact(&mut line).unwrap();
        assert_eq!(line, words.as_bytes());
        talk
    }

    fn step(&mut self, world: &mut World, dice: &mut Dice) {
        let len = dice.below(50_000);
        match dice.below(4) {
            0 => {
                let rest = &self.to_guest[self.written..];
                let piece = &rest[..len.min(rest.len())];
                self.written += self.program.write(piece).unwrap_or(0);
            }
            1 => {
                let mut some = vec![0; len];
                let read = self.program.read(&mut some).unwrap_or(0);
                self.program_read.extend_from_slice(&some[..read]);
            }
            2 => {
                let free = BUFFER as usize - (self.sent - self.acknowledged);
                let rest = &self.to_program[self.sent..];
                let piece = rest[..len.min(rest.len()).min(free)].to_vec();
                self.sent += piece.len();
                world.forwarded = u32::try_from(self.guest_read).unwrap();
                world.send(self.pair, Operation::Bytes, &piece);
            }
            _ => {
                self.guest_read += len.min(self.came.len() - self.guest_read);
                world.forwarded = u32::try_from(self.guest_read).unwrap();
                world.send(self.pair, Operation::CreditUpdate, &[]);
            }
        }
    }

    fn hear(&mut self, packet: &Packet, buffer: u32) {
        assert!(matches!(
            packet.header.operation,
            Operation::Bytes | Operation::CreditUpdate | Operation::CreditRequest
        ));
        self.acknowledged = packet.header.forwarded as usize;
        self.came.extend_from_slice(&packet.bytes);
        let held = self.came.len() - self.guest_read;
        assert!(held <= buffer as usize, "more than there was room for");
    }

    fn is_done(&self) -> bool {
        self.came.len() == self.to_guest.len() && self.program_read.len() == self.to_program.len()
    }
}

#[test]
fn all_bytes_of_all_connections_arrive_in_order() {
    for seed in 0..8 {
        let mut dice = Dice(seed);
        let mut world = World::new();
        world.buffer = u32::try_from(1000 + dice.below(100_000)).unwrap();
        let mut talks: Vec<Talk> = (0..5)
            .map(|number| Talk::new(&mut world, number, &mut dice))
            .collect();
        let mut steps = 0;
        while !talks.iter().all(Talk::is_done) {
            let talk = dice.below(talks.len());
            world.room = u32::try_from(45 + dice.below(6000)).unwrap();
            talks[talk].step(&mut world, &mut dice);
            for packet in world.settle() {
                let pair = pair_of(&packet);
                let talk = talks.iter_mut().find(|talk| talk.pair == pair).unwrap();
                talk.hear(&packet, world.buffer);
            }
            steps += 1;
            assert!(steps < 20_000, "seed {seed} is stuck");
        }
        for talk in talks {
            assert!(talk.came == talk.to_guest && talk.program_read == talk.to_program);
        }
    }
}

/// Packets of all kinds between few ports, some of them with numbers that make no sense.
#[test]
fn a_guest_that_says_anything_breaks_nothing() {
    let mut world = World::new();
    let listener = world.serve(1);
    listener.set_nonblocking(true).unwrap();
    let mut programs = Vec::new();
    let mut dice = Dice(99);
    for _ in 0..20_000 {
        let host = match dice.below(4) {
            0 => 1 << 30,
            port => u32::try_from(port).unwrap(),
        };
        let pair = Pair {
            host,
            guest: u32::try_from(dice.below(3)).unwrap(),
        };
        let operation = Operation::from(u16::try_from(dice.below(9)).unwrap());
        let flags = u32::try_from(dice.below(8)).unwrap();
        let len = [0, 10, 5000, 70_000][dice.below(4)];
        world.forwarded = [0, 1, 100_000, u32::MAX][dice.below(4)];
        world.buffer = [0, 1, 100_000, u32::MAX][dice.below(4)];
        world.send_with_flags(pair, operation, flags, &noise(len));
        match dice.below(4) {
            0 => programs.extend(listener.accept().map(|(program, _)| program)),
            1 => programs.push(world.program(["CONNECT 1\nbytes", "CONN", "x\n"][dice.below(3)])),
            2 => programs.truncate(dice.below(20)),
            _ => {
                if let Some(program) = programs.last_mut() {
                    let _ = program.set_nonblocking(true);
                    let _ = program.write(&noise(10_000));
                    let _ = program.read(&mut [0; 10_000]);
                }
            }
        }
        world.settle();
    }
    drop(programs);
    world.backend.stopped();
    world.driver = Driver::new(3);
    world.give_buffers();
    world.settle();
    // A new driver finds everything as it should be.
    let (mut program, pair) = world.connected();
    world.send(pair, Operation::Bytes, b"fine");
    assert_eq!(read_there(&mut program), b"fine");
}
