//! Sets of interrupt identifiers below 1024, in the words in which the registers show them.

/// A set of identifiers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ids([u32; 32]);

impl Ids {
    pub(super) const NONE: Self = Self([0; 32]);

    pub(super) fn contains(&self, id: u32) -> bool {
        self.word((id / 32).into()) & bit(id) != 0
    }

    /// Puts `id` in or takes it out. There is no identifier from 1024 on.
    pub(super) fn set(&mut self, id: u32, member: bool) {
        let index = (id / 32).into();
        let word = self.word(index);
        let word = if member {
            word | bit(id)
        } else {
            word & !bit(id)
        };
        self.set_word(index, word);
    }

    /// The 32 identifiers from 32 times `index`.
    pub(super) fn word(&self, index: u64) -> u32 {
        let word = usize::try_from(index).ok().and_then(|at| self.0.get(at));
        word.map_or(0, |word| *word)
    }

    pub(super) fn set_word(&mut self, index: u64, value: u32) {
        if let Some(word) = usize::try_from(index)
            .ok()
            .and_then(|at| self.0.get_mut(at))
        {
            *word = value;
        }
    }

    /// The identifiers that are in both sets, ascending.
    pub(super) fn both(&self, other: &Self) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .zip(&other.0)
            .zip((0..).step_by(32))
            .flat_map(|((mine, theirs), first)| members(mine & theirs).map(move |id| first + id))
    }
}

/// Which bits of the word are set, ascending.
fn members(mut word: u32) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let lowest = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(lowest)
    })
}

fn bit(id: u32) -> u32 {
    1 << (id % 32)
}

impl FromIterator<u32> for Ids {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        let mut set = Self::NONE;
        for id in ids {
            set.set(id, true);
        }
        set
    }
}
