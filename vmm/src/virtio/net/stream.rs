//! Frames over a stream socket, each behind its length.

use super::Lost;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

/// How many bytes a frame's length takes.
const PREFIX: usize = 4;

/// How many bytes are read at a time.
const CHUNK: usize = 64 << 10;

/// The longest frame that anybody sends: what fits behind a length of 16 bits, and the header before
/// that.
const LONGEST: usize = 65_550;

/// Both directions of a stream of frames. Of each there is at most a frame and a bit here.
#[derive(Debug)]
pub(super) struct FrameStream {
    socket: OwnedFd,
    /// What was read and not handed on: from `start` to the end.
    read: Vec<u8>,
    start: usize,
    /// What is left of a frame that was sent.
    unsent: Vec<u8>,
}

impl FrameStream {
    /// The frames that go over `socket`, which does not block.
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self {
            socket,
            read: Vec::new(),
            start: 0,
            unsent: Vec::new(),
        }
    }

    /// Sends a frame, or keeps what is left of it.
    pub(super) fn send(&mut self, frame: &[u8]) -> Result<(), Lost> {
        debug_assert!(!self.is_behind(), "one frame at a time");
        let Ok(len) = u32::try_from(frame.len()) else {
            return Ok(());
        };
        self.unsent.extend(len.to_be_bytes());
        self.unsent.extend_from_slice(frame);
        self.flush()
    }

    /// Whether something is left of a frame.
    pub(super) fn is_behind(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what is left of a frame.
    pub(super) fn flush(&mut self) -> Result<(), Lost> {
        while self.is_behind() {
            match send(&self.socket, &self.unsent, SendFlags::NOSIGNAL) {
                Ok(len) => drop(self.unsent.drain(..len)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(_) => return self.lose(),
            }
        }
        Ok(())
    }

    /// The next frame, and how long it is; `None` where it has not all come. One that is longer than
    /// `frame` loses the stream: what comes after it would be nonsense.
    pub(super) fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, Lost> {
        loop {
            if let Some(len) = self.next_len()? {
                let bytes = self.read.get(self.start + PREFIX..).unwrap_or(&[]);
                if let Some(bytes) = bytes.get(..len) {
                    frame.get_mut(..len).ok_or(Lost)?.copy_from_slice(bytes);
                    self.start += PREFIX + len;
                    return Ok(Some(len));
                }
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// The length of the next frame, where that has come.
    fn next_len(&self) -> Result<Option<usize>, Lost> {
        let rest = self.read.get(self.start..).unwrap_or(&[]);
        let Some(prefix) = rest.first_chunk() else {
            return Ok(None);
        };
        let len = usize::try_from(u32::from_be_bytes(*prefix)).or(Err(Lost))?;
        if len > LONGEST {
            return Err(Lost);
        }
        Ok(Some(len))
    }

    /// Reads on, behind what is left of what was read; false where there is nothing for now.
    fn read_more(&mut self) -> Result<bool, Lost> {
        self.read.drain(..self.start);
        self.start = 0;
        let before = self.read.len();
        self.read.resize(before + CHUNK, 0);
        let room = self.read.get_mut(before..).unwrap_or_default();
        let result = recv(&self.socket, room, RecvFlags::empty());
        let came = result.map_or(0, |(len, _)| len);
        self.read.truncate(before + came);
        match result {
            Ok((0, _)) => self.lose(),
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(Errno::AGAIN) => Ok(false),
            Err(_) => self.lose(),
        }
    }

    fn lose<T>(&mut self) -> Result<T, Lost> {
        self.unsent.clear();
        Err(Lost)
    }
}

impl AsFd for FrameStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    fn pair() -> (FrameStream, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, its) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (FrameStream::new(ours), its)
    }

    fn frame(stream: &mut FrameStream) -> Result<Option<Vec<u8>>, Lost> {
        let mut bytes = vec![0; LONGEST];
        let len = stream.receive(&mut bytes)?;
        Ok(len.map(|len| bytes[..len].to_vec()))
    }

    #[test]
    fn frames_come_whole_however_the_bytes_come() {
        let (mut stream, its) = pair();
        let bytes = b"\0\0\0\x03abc\0\0\0\0\0\0\0\x02de";
        for byte in bytes {
            assert_eq!(rustix::io::write(&its, &[*byte]), Ok(1));
            if let Some(frame) = frame(&mut stream).unwrap() {
                assert!([&b"abc"[..], b"", b"de"].contains(&&frame[..]));
            }
        }
        assert_eq!(frame(&mut stream), Ok(None));
        rustix::io::write(&its, bytes).unwrap();
        assert_eq!(frame(&mut stream), Ok(Some(b"abc".to_vec())));
        assert_eq!(frame(&mut stream), Ok(Some(b"".to_vec())));
        assert_eq!(frame(&mut stream), Ok(Some(b"de".to_vec())));
        assert_eq!(frame(&mut stream), Ok(None));
        assert!(stream.read.len() <= CHUNK);
    }

    #[test]
    fn the_longest_frame_comes_and_a_longer_one_loses_the_stream() {
        let (mut stream, its) = pair();
        let long = vec![7; LONGEST];
        rustix::io::write(&its, &u32::try_from(LONGEST).unwrap().to_be_bytes()).unwrap();
        rustix::io::write(&its, &long).unwrap();
        assert_eq!(frame(&mut stream), Ok(Some(long)));
        rustix::io::write(&its, &[0xff; 4]).unwrap();
        assert_eq!(frame(&mut stream), Err(Lost));
    }

    #[test]
    fn a_frame_that_does_not_all_fit_goes_on_when_there_is_room() {
        let (mut stream, its) = pair();
        let sent = vec![5; 60_000];
        let mut frames = 0;
        while !stream.is_behind() {
            stream.send(&sent).unwrap();
            frames += 1;
        }
        let mut came = Vec::new();
        let mut some = [0; 10_000];
        while let Ok(len) = rustix::io::read(&its, &mut some) {
            came.extend_from_slice(&some[..len]);
            stream.flush().unwrap();
        }
        assert!(!stream.is_behind());
        let one = [&60_000u32.to_be_bytes()[..], &sent].concat();
        assert!(came == one.repeat(frames));
    }

    #[test]
    fn a_stream_whose_other_end_is_closed_is_lost_after_what_came() {
        let (mut stream, its) = pair();
        rustix::io::write(&its, b"\0\0\0\x01x\0\0").unwrap();
        drop(its);
        assert_eq!(frame(&mut stream), Ok(Some(b"x".to_vec())));
        assert_eq!(frame(&mut stream), Err(Lost));
        assert_eq!(stream.send(b"y"), Err(Lost));
        assert!(!stream.is_behind());
    }
}
