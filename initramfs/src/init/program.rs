//! A program for the interpreter: a list of steps, most of them system calls, and data.
//!
//! A step has six arguments, each a number, an address, or what lies at an address, which is how
//! the result of one step becomes an argument of another. Which step comes next depends on whether
//! the result is an error, a number from -4095 to -1. In memory it looks so:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 4 | a system call's number, or 1024 and up: one of the interpreter's own operations |
//! | 4 | 4 | bits 1 to 6: arguments that are addresses of what counts |
//! | 8 | 48 | the arguments |
//! | 56 | 8 | the address of the next step |
//! | 64 | 8 | that of the next step after an error |
//! | 72 | 8 | the result |
//!
//! Before the first step lie eight bytes that get the stack pointer that the program is entered
//! with, and behind the last one the data.

use super::call::{Call, Numbers};

/// Steps and data while they are put together.
#[derive(Debug, Default)]
pub(super) struct Program {
    steps: Vec<Step>,
    labels: Vec<Option<usize>>,
    data: Vec<u8>,
    /// Eight bytes of data that are to hold the address of other data.
    pointers: Vec<(Place, Place)>,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Makes a system call.
    Call(Call),
    /// Gives 0 where the first two arguments are equal, else -1, which is an error.
    Equal,
    /// Gives the first argument, moved to the right by the second's bits, and of that the third's.
    Field,
    /// Gives the first argument, and to it the product of the others.
    MultiplyAdd,
    /// Gives the eight bytes at the first argument.
    Load,
    /// Stores the second argument at the first.
    Store,
    /// Writes the first argument to the debug-exit port; on x86 alone.
    DebugExit,
}

/// An argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    /// The address of data.
    Address(Place),
    /// The eight bytes that lie in data when the step's turn comes.
    Contents(Place),
    /// What a step gave.
    Result(Done),
    /// The stack pointer that the program is entered with: there lie the number of arguments,
    /// their addresses, 0, and the addresses of the environment's variables.
    Stack,
}

/// A place in the data, counted from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(usize);

/// A step that has been put down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done(usize);

/// A step that others lead to, which may still have to be put down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Eight bytes of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Number(u64),
    Address(Place),
}

#[derive(Clone, Copy, Debug)]
struct Step {
    operation: Operation,
    arguments: [Value; 6],
    then: Next,
    after_error: Next,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Following,
    Label(Label),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<Place> for Value {
    fn from(place: Place) -> Self {
        Self::Address(place)
    }
}

impl From<Done> for Value {
    fn from(step: Done) -> Self {
        Self::Result(step)
    }
}

impl Value {
    /// A number below zero.
    pub(super) const fn minus(number: u64) -> Self {
        Self::Number(0_u64.wrapping_sub(number))
    }
}

impl Place {
    /// So many bytes behind it.
    pub(super) const fn behind(self, bytes: usize) -> Self {
        Self(self.0 + bytes)
    }
}

impl Program {
    /// A system call whose error changes nothing, unless [`on_error`](Self::on_error) says so.
    pub(super) fn call(&mut self, call: Call, arguments: &[Value]) -> Done {
        self.step(Operation::Call(call), arguments)
    }

    pub(super) fn step(&mut self, operation: Operation, arguments: &[Value]) -> Done {
        let mut six = [Value::Number(0); 6];
        assert!(arguments.len() <= six.len(), "a step has six arguments");
        for (to, from) in six.iter_mut().zip(arguments) {
            *to = *from;
        }
        self.steps.push(Step {
            operation,
            arguments: six,
            then: Next::Following,
            after_error: Next::Following,
        });
        Done(self.steps.len() - 1)
    }

    /// Goes on at `label` where the step gives no error.
    pub(super) fn then(&mut self, step: Done, label: Label) {
        self.steps[step.0].then = Next::Label(label);
    }

    /// Goes on at `label` where the step gives an error.
    pub(super) fn on_error(&mut self, step: Done, label: Label) {
        self.steps[step.0].after_error = Next::Label(label);
    }

    pub(super) fn jump(&mut self, label: Label) {
        let step = self.step(Operation::Equal, &[]);
        self.then(step, label);
    }

    /// Goes on at `label` where the two are equal.
    pub(super) fn if_equal(
        &mut self,
        one: impl Into<Value>,
        other: impl Into<Value>,
        label: Label,
    ) {
        let step = self.step(Operation::Equal, &[one.into(), other.into()]);
        self.then(step, label);
    }

    /// Goes on at `label` where the two differ.
    pub(super) fn unless_equal(
        &mut self,
        one: impl Into<Value>,
        other: impl Into<Value>,
        label: Label,
    ) {
        let step = self.step(Operation::Equal, &[one.into(), other.into()]);
        self.on_error(step, label);
    }

    pub(super) fn store(&mut self, to: Place, value: impl Into<Value>) {
        self.step(Operation::Store, &[to.into(), value.into()]);
    }

    /// Takes one from the number in `counter`, and goes on at `label` where that was 0.
    pub(super) fn count_down(&mut self, counter: Place, label: Label) {
        let less = [Value::Contents(counter), 1.into(), Value::minus(1)];
        let less = self.step(Operation::MultiplyAdd, &less);
        self.on_error(less, label);
        self.store(counter, less);
    }

    /// A label that stands nowhere yet.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Lets `label` stand before the next step.
    pub(super) fn bind(&mut self, label: Label) {
        let before = self.labels[label.0].replace(self.steps.len());
        assert_eq!(before, None, "a label stands in one place");
    }

    /// A label before the next step.
    pub(super) fn here(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// A text, with the NUL behind it.
    pub(super) fn text(&mut self, text: &str) -> Place {
        let place = Place(self.data.len());
        self.data.extend_from_slice(text.as_bytes());
        self.data.push(0);
        place
    }

    /// Texts, each with NULs behind it up to `stride` bytes.
    pub(super) fn texts(&mut self, stride: usize, texts: impl Iterator<Item = String>) -> Place {
        let place = Place(self.data.len());
        for text in texts {
            assert!(text.len() < stride, "{text} has a NUL behind it");
            self.data.extend_from_slice(text.as_bytes());
            let end = self.data.len() + stride - text.len();
            self.data.resize(end, 0);
        }
        place
    }

    /// Words, at an address that is a multiple of their size.
    pub(super) fn words(&mut self, words: &[Word]) -> Place {
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        let place = Place(self.data.len());
        for word in words {
            let number = match *word {
                Word::Number(number) => number,
                Word::Address(to) => {
                    self.pointers.push((Place(self.data.len()), to));
                    0
                }
            };
            self.data.extend_from_slice(&number.to_le_bytes());
        }
        place
    }

    /// A word that changes.
    pub(super) fn number(&mut self, number: u64) -> Place {
        self.words(&[Word::Number(number)])
    }

    /// The addresses of `texts`, and 0 behind them, as `execve` takes them.
    pub(super) fn text_list<'a>(&mut self, texts: impl Iterator<Item = &'a str>) -> Place {
        let texts: Vec<Word> = texts.map(|text| Word::Address(self.text(text))).collect();
        self.words(&[texts.as_slice(), &[Word::Number(0)]].concat())
    }

    /// The program as it lies at `base`.
    ///
    /// # Panics
    ///
    /// Where a step leads to a label that stands nowhere, or makes a call that the architecture
    /// does not have.
    pub(super) fn image(&self, base: u64, numbers: Numbers) -> Vec<u8> {
        let layout = Layout {
            base,
            program: self,
        };
        let mut image = vec![0; STACK];
        for (index, step) in self.steps.iter().enumerate() {
            let mut mask = 0_u32;
            let mut words = Vec::new();
            for (bit, argument) in (1..).zip(&step.arguments) {
                let (word, is_address) = layout.argument(*argument);
                words.push(word);
                mask |= u32::from(is_address) << bit;
            }
            words.push(layout.next(index, step.then));
            words.push(layout.next(index, step.after_error));
            words.push(0); // the result
            image.extend_from_slice(&step.operation.code(numbers).to_le_bytes());
            image.extend_from_slice(&mask.to_le_bytes());
            image.extend(words.into_iter().flat_map(u64::to_le_bytes));
        }
        let data = image.len();
        image.extend_from_slice(&self.data);
        for &(Place(at), to) in &self.pointers {
            let address = layout.data(to).to_le_bytes();
            image[data + at..][..8].copy_from_slice(&address);
        }
        image
    }
}

/// The bytes of the saved stack pointer.
const STACK: usize = 8;
/// The bytes of a step.
const STEP: usize = 80;
/// Where in a step its result is.
const RESULT: u64 = 72;
/// The first of the interpreter's own operations.
const OWN: u32 = 1024;

/// Where what lies in memory.
struct Layout<'a> {
    base: u64,
    program: &'a Program,
}

impl Layout<'_> {
    /// The word of an argument, and whether it is the address of what counts.
    fn argument(&self, value: Value) -> (u64, bool) {
        match value {
            Value::Number(number) => (number, false),
            Value::Address(place) => (self.data(place), false),
            Value::Contents(place) => (self.data(place), true),
            Value::Result(Done(step)) => (self.step(step) + RESULT, true),
            Value::Stack => (self.base, true),
        }
    }

    /// Where the step behind the one at `index`, or another, is. Behind the last one comes itself.
    fn next(&self, index: usize, next: Next) -> u64 {
        let last = self.program.steps.len().saturating_sub(1);
        let step = match next {
            Next::Following => index + 1,
            Next::Label(Label(label)) => {
                self.program.labels[label].expect("every label that is used stands somewhere")
            }
        };
        self.step(step.min(last))
    }

    fn step(&self, index: usize) -> u64 {
        self.base + (STACK + index * STEP) as u64
    }

    fn data(&self, Place(at): Place) -> u64 {
        self.step(self.program.steps.len()) + at as u64
    }
}

impl Operation {
    fn code(self, numbers: Numbers) -> u32 {
        match self {
            Self::Call(call) => call
                .number(numbers)
                .expect("only calls of the architecture are made"),
            Self::Equal => OWN,
            Self::Field => OWN + 1,
            Self::MultiplyAdd => OWN + 2,
            Self::Load => OWN + 3,
            Self::Store => OWN + 4,
            Self::DebugExit => OWN + 5,
        }
    }
}
