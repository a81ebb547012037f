//! Finding where two transcripts of overlapping audio meet.
//!
//! Both sides are first reduced to their *content words* (see [`normalize`]); pure punctuation takes no part. The
//! alignment is then semi-global (Needleman-Wunsch with two free ends): a suffix of `prev` against a prefix of `new`.
//!
//! ```text
//! prev   ------------------------------======x      the start of prev is free, its last words (x) may be garbled
//! new                                 x======-----------------     the rest of new is free, its first (x) may be too
//! ```
//!
//! | step                                                              | worth, in words              |
//! |-------------------------------------------------------------------|------------------------------|
//! | the same word                                                     | 1                            |
//! | a near word ("browns"/"brown")                                    | 1 - 3 * the part that differs|
//! | another word                                                      | -1                           |
//! | a word in between that only one side has                          | -1.5                         |
//! | a first word of `new` or a last word of `prev` that is left over  | -0.5                         |
//!
//! The best alignment is an overlap if it is worth at least one word: a single word does only where it touches both
//! edges ("to the" + "the dog"), and a lost word on each side needs two good ones between. Of equally good
//! alignments the one that keeps more words wins, because a word said twice is a smaller fault than a word lost.
//! Among repeated words ("no no no" + "no no no") the longest overlap is the best one, so nothing is doubled.
//!
//! The stitch is at the first word that is *the same* on both sides: `prev` wins before it, `new` from there on. So the
//! words most likely to be wrong, the first of `new` and the last of `prev`, both come from the side that heard them
//! whole. The numbers were chosen with `benchmarks/strops_merge.py`, which measures how often this is right.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// Scores are whole numbers, in hundredths of a word: equal on every machine, and comparable without rounding.
pub const WORD: i64 = 100;
/// Two unlike words side by side.
const MISS: i64 = 100;
/// A word in between that only one side has. As dear as one match and one word left over: a garbled first word that
/// happens to be a word said shortly before cannot pull the stitch over words that were spoken.
const GAP: i64 = 150;
/// A word left over at an inner edge, where words are expected to be cut.
const EDGE: i64 = 50;
/// An alignment may nowhere lose more than this from what it was worth before: twelve words left over, or six wrong
/// ones in a row, are not an overlap. It bounds the work: unrelated texts take time proportional to their length.
const LIMIT: i64 = 6 * WORD;
/// One hundredth of a word in a rank ([`Path`]).
const POINT: i64 = 1 << 32;
/// No living path has a lower rank: none is worth less than -[`LIMIT`].
const LOWEST: i64 = -LIMIT * POINT - POINT / 2;
/// The rank of a path that lost too much; it stays low whatever follows.
const DEAD: i64 = i64::MIN / 2;

/// Where two word sequences meet: the merged sequence is `prev[..prev_end]` followed by `new[new_start..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Overlap {
    /// Words of `prev` that are kept: the index of the first word which both sides have.
    pub prev_end: usize,
    /// Words of `new` that are dropped: the index of that same word in `new`.
    pub new_start: usize,
    /// How many words are the same on both sides, at least 1.
    pub matched: usize,
    /// Worth of the alignment in hundredths of a word ([`WORD`]): `matched` less what does not fit, at least [`WORD`].
    pub score: i64,
}

/// A word sequence in the form in which it is compared: its content words, normalised, in one buffer.
#[derive(Clone, Debug, Default)]
pub struct Words {
    chars: Vec<char>,
    content: Vec<Word>,
    seen: usize,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    start: usize, // in `chars`
    end: usize,
    first: char,
    last: char,
    index: usize, // in the original sequence
}

impl<S: AsRef<str>> FromIterator<S> for Words {
    fn from_iter<I: IntoIterator<Item = S>>(words: I) -> Self {
        let mut all = Self::default();
        for word in words {
            all.push(word.as_ref());
        }
        all
    }
}

impl Words {
    /// Add the next word of the sequence.
    pub fn push(&mut self, word: &str) {
        let start = self.chars.len();
        push_normalized(word, &mut self.chars);
        if let (Some(&first), Some(&last)) = (self.chars.get(start), self.chars.last()) {
            self.content.push(Word { start, end: self.chars.len(), first, last, index: self.seen });
        }
        self.seen += 1;
    }

    fn word(&self, i: usize) -> &[char] {
        &self.chars[self.content[i].start..self.content[i].end]
    }

    /// How many leading words are the same as those of `other`, word by word.
    #[must_use]
    pub fn agreed_prefix(&self, other: &Self) -> usize {
        let count = self.content.len().min(other.content.len());
        let same = |&i: &usize| self.content[i].index == other.content[i].index && self.word(i) == other.word(i);
        let agreed = (0..count).take_while(same).count();
        let next = |side: &Self| side.content.get(agreed).map_or(side.seen, |word| word.index);
        next(self).min(next(other))
    }

    /// The overlap of a suffix of `self` with a prefix of `new`, or `None` where there is none.
    #[must_use]
    pub fn overlap(&self, new: &Self) -> Option<Overlap> {
        let (n, m) = (self.content.len(), new.content.len());
        let (all, words) = (n.min(m), i64::try_from(n).ok()?);
        if all > 0 && (0..all).all(|k| self.word(n - all + k) == new.word(k)) {
            // One is the end or the beginning of the other. No alignment is worth more.
            return Some(self.stitch(new, n - all, 0, all, WORD * i64::try_from(all).ok()?));
        }
        // Where an alignment may begin: any number of words of prev skipped freely, j words of new at a cost.
        let starts: Vec<Path> = (0..).take(m + 1).map(Path::start).collect();
        // row[j]: the best path to (i, j), that is, with i words of prev and j words of new behind it.
        let mut row = starts.clone();
        let mut alive = u32::MAX; // no path lives beyond this column
        let mut best = Path { rank: DEAD, ..starts[0] };
        for (prev_word, i) in self.content.iter().zip(0..) {
            let behind = i64::from(i) + 1;
            let left_over = EDGE * (words - behind);
            let mut diagonal = row[0];
            row[0].rank = behind;
            let mut left = row[0];
            let mut last = 0;
            let columns = row[1..].iter_mut().zip(&starts[1..]).zip(&new.content).zip(0..);
            for (((cell, &start), new_word), j) in columns {
                let up = *cell;
                let mut path = Path { rank: start.rank + behind, ..start };
                if diagonal.rank.max(up.rank).max(left.rank).max(path.rank) >= LOWEST {
                    if diagonal.rank >= LOWEST {
                        path.keep_better(diagonal.pair(self.compare(prev_word, new, new_word), i, j));
                    }
                    if up.rank.max(left.rank) >= path.rank + GAP * POINT {
                        path.keep_better(up.skip(1));
                        path.keep_better(left.skip(-1));
                    }
                    if path.rank >= LOWEST {
                        last = j + 1;
                        let end = Path { rank: path.rank - left_over * POINT, lost: path.lost + left_over, ..path };
                        if path.matched > 0 {
                            best.keep_better(end);
                        }
                    }
                    *cell = path;
                } else if j >= alive {
                    break;
                }
                (diagonal, left) = (up, *cell);
            }
            alive = last;
        }
        let score = (best.rank + POINT / 2).div_euclid(POINT);
        let found = best.matched > 0 && score >= WORD;
        found.then(|| self.stitch(new, best.prev_end as usize, best.new_start as usize, best.matched as usize, score))
    }

    fn stitch(&self, new: &Self, i: usize, j: usize, matched: usize, score: i64) -> Overlap {
        Overlap { prev_end: self.content[i].index, new_start: new.content[j].index, matched, score }
    }

    /// What it is worth to lay word `a` beside word `b` of `other`.
    ///
    /// What differs is the fraction of the longer word without the common prefix and suffix: the edit distance for a
    /// single edit (a plural, a typo, a word cut short), never less for more, and next to nothing for unlike words.
    fn compare(&self, a: &Word, other: &Self, b: &Word) -> i64 {
        if a.first != b.first && a.last != b.last {
            return -MISS;
        }
        let (a, b) = (&self.chars[a.start..a.end], &other.chars[b.start..b.end]);
        let (short, long) = (a.len().min(b.len()), a.len().max(b.len()));
        let prefix = a.iter().zip(b).take_while(|(x, y)| x == y).count();
        if prefix == long {
            return WORD;
        }
        let rest = a.iter().rev().zip(b.iter().rev()).take(short - prefix);
        let differs = long - prefix - rest.take_while(|(x, y)| x == y).count();
        if 3 * differs >= 2 * long {
            return -MISS;
        }
        // Below 2 words here, and at least a hundredth: only the same word is worth a whole one.
        i64::try_from(300 * differs / long).map_or(-MISS, |cost| WORD - cost.max(1))
    }
}

/// The best alignment up to one point of the table, and its first match (if `matched` is not 0).
#[derive(Clone, Copy)]
struct Path {
    /// The score in [`POINT`]s, plus the words that the merge keeps less those that it drops (`prev_end - new_start`;
    /// before the first match: as if it came next), so that of equal scores the longer merge is the higher rank.
    rank: i64,
    /// How far the score is below the highest that this path has had.
    lost: i64,
    matched: u32,
    prev_end: u32,
    new_start: u32,
}

impl Path {
    /// `j` words of `new` left over; add i to the rank for all of `prev` so far skipped freely.
    fn start(j: i64) -> Self {
        let lost = EDGE * j;
        let rank = if lost > LIMIT { DEAD } else { -lost * POINT - j };
        Self { rank, lost, matched: 0, prev_end: 0, new_start: 0 }
    }

    fn pair(mut self, worth: i64, i: u32, j: u32) -> Self {
        self.rank += worth * POINT;
        self.lost = (self.lost - worth).max(0);
        if worth == WORD {
            if self.matched == 0 {
                (self.prev_end, self.new_start) = (i, j);
            }
            self.matched += 1;
        }
        self
    }

    /// Skip a word of `prev` (kept: 1) or of `new` (kept: -1).
    fn skip(mut self, kept: i64) -> Self {
        self.rank -= GAP * POINT;
        self.lost += GAP;
        if self.matched == 0 {
            self.rank += kept;
        }
        self
    }

    fn keep_better(&mut self, other: Self) {
        if other.rank > self.rank && other.lost <= LIMIT {
            *self = other;
        }
    }
}

/// The form in which words are compared: letters and digits only, without case, in one Unicode spelling.
///
/// Apostrophes go like all punctuation, so "don't" and "dont" are one word. Punctuation alone gives an empty string,
/// which never counts as a match.
///
/// ```
/// use strops::normalize;
/// assert_eq!(normalize("Don't,"), "dont");
/// assert_eq!(normalize("STRASSE"), normalize("Straße"));
/// assert_eq!(normalize("cafe\u{301}"), "caf\u{e9}"); // the accent as a character of its own, or within the letter
/// assert_eq!(normalize("..."), "");
/// ```
#[must_use]
pub fn normalize(word: &str) -> String {
    let mut chars = Vec::with_capacity(word.len());
    push_normalized(word, &mut chars);
    chars.into_iter().collect()
}

fn push_normalized(word: &str, out: &mut Vec<char>) {
    if word.is_ascii() {
        let letters = word.bytes().filter(u8::is_ascii_alphanumeric);
        out.extend(letters.map(|byte| char::from(byte.to_ascii_lowercase())));
    } else {
        // Lower, upper and lower case again is very nearly Unicode's full case folding (ß = ss, final sigma = sigma),
        // and std has it. Marks stay, for they are vowels in many scripts; alone they are not a word.
        let fold = |c: char| c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase);
        let letters = word.nfkd().flat_map(fold).nfkd().filter(|&c| is_letter(c) || is_combining_mark(c));
        let start = out.len();
        out.extend(letters.nfc());
        if !out[start..].iter().any(|&c| is_letter(c)) {
            out.truncate(start);
        }
    }
}

/// Letters and digits, without marks, and without the two letters that Unicode makes of apostrophes.
fn is_letter(c: char) -> bool {
    c.is_alphanumeric() && !is_combining_mark(c) && !matches!(c, '\u{2bb}' | '\u{2bc}')
}

/// Where a suffix of `prev` and a prefix of `new` are the same speech, or `None` if nothing says that they are.
///
/// ```
/// use strops::{WORD, Overlap, find_overlap};
/// let prev = ["We", "saw", "the", "quick", "brown", "fox", "jum"];
/// let new = ["ick", "Brown", "fox", "jumps."];
/// // "ick" is half a word that prev heard whole, "jum" is half a word that new heard whole
/// let overlap = find_overlap(&prev, &new).unwrap();
/// assert_eq!((overlap.prev_end, overlap.new_start, overlap.matched), (4, 1, 2));
///
/// assert_eq!(find_overlap(&["a", "b", "."], &["new", "sentence", "."]), None); // punctuation is no evidence
/// ```
#[must_use]
pub fn find_overlap<P: AsRef<str>, N: AsRef<str>>(prev: &[P], new: &[N]) -> Option<Overlap> {
    Words::from_iter(prev).overlap(&Words::from_iter(new))
}

/// `prev` followed by what `new` adds: `prev[..prev_end]` + `new[new_start..]`, or all of both without an overlap.
///
/// ```
/// use strops::merge_by_overlap;
/// let merged = merge_by_overlap(&["The", "quick", "brown", "fox"], &["brown", "fox", "jumps"]);
/// assert_eq!(merged, ["The", "quick", "brown", "fox", "jumps"]);
///
/// // one common word in the middle is no overlap: nothing that was said is lost
/// let merged = merge_by_overlap(&["i", "like", "the", "cat"], &["then", "the", "dog", "came", "home"]);
/// assert_eq!(merged.join(" "), "i like the cat then the dog came home");
/// ```
#[must_use]
pub fn merge_by_overlap<T: AsRef<str> + Clone>(prev: &[T], new: &[T]) -> Vec<T> {
    let (prev_end, new_start) =
        find_overlap(prev, new).map_or((prev.len(), 0), |overlap| (overlap.prev_end, overlap.new_start));
    [&prev[..prev_end], &new[new_start..]].concat()
}

/// How many leading words two sequences have in common, word by word in normalised form.
///
/// ```
/// use strops::agreed_prefix;
/// assert_eq!(agreed_prefix(&["So", "it", "goes"], &["so,", "it", "went"]), 2);
/// ```
#[must_use]
pub fn agreed_prefix<A: AsRef<str>, B: AsRef<str>>(a: &[A], b: &[B]) -> usize {
    Words::from_iter(a).agreed_prefix(&Words::from_iter(b))
}
