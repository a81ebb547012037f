//! `strops`: string operations on word sequences. The work is in [`overlap`]; this file makes it a Python module.
#![forbid(unsafe_code)]

pub mod overlap;

pub use overlap::{Overlap, WORD, Words, agreed_prefix, find_overlap, merge_by_overlap, normalize};

/// Merge the word sequences of overlapping transcripts.
///
/// Words are compared without case and punctuation; what comes back is always the caller's own str objects.
#[cfg(feature = "python")]
#[pyo3::pymodule]
mod strops {
    use crate::overlap::{self, WORD, Words};
    use pyo3::exceptions::PyTypeError;
    use pyo3::prelude::*;
    use pyo3::types::{PyList, PySequence, PyString};

    /// From this many words (of both sides) on, the alignment may take milliseconds, and other threads may run.
    const LARGE: usize = 2000;

    /// Where two word sequences meet: the merged sequence is `prev[:prev_end] + new[new_start:]`.
    #[pyclass(frozen, eq, hash, module = "strops")]
    #[derive(PartialEq, Eq, Hash)]
    struct Overlap(overlap::Overlap);

    #[pymethods]
    impl Overlap {
        #[classattr]
        #[pyo3(name = "__match_args__")]
        const MATCH_ARGS: (&'static str, &'static str) = ("prev_end", "new_start");

        /// Words of `prev` that are kept: the index of the first word that both sides have.
        #[getter]
        fn prev_end(&self) -> usize {
            self.0.prev_end
        }

        /// Words of `new` that are dropped: the index of that same word in `new`.
        #[getter]
        fn new_start(&self) -> usize {
            self.0.new_start
        }

        /// How many words are the same on both sides, at least 1.
        #[getter]
        fn matched(&self) -> usize {
            self.0.matched
        }

        /// Worth of the alignment in words: `matched` less what does not fit, at least 1.0.
        #[getter]
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 hundredths of a word")]
        fn score(&self) -> f64 {
            self.0.score as f64 / WORD as f64
        }

        fn __repr__(&self) -> String {
            let overlap::Overlap { prev_end, new_start, matched, .. } = self.0;
            let score = self.score();
            format!("Overlap(prev_end={prev_end}, new_start={new_start}, matched={matched}, score={score:?})")
        }
    }

    fn expected(what: &str, where_: &str, got: &Bound<'_, PyAny>) -> PyErr {
        match got.get_type().name() {
            Ok(got) => PyTypeError::new_err(format!("{where_}: expected {what}, got {got}")),
            Err(error) => error,
        }
    }

    /// The words as a list of the same objects, and in the form in which they are compared.
    fn read<'py>(name: &str, words: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyList>, Words)> {
        let sequence = words.cast::<PySequence>();
        let list = match sequence {
            Ok(sequence) if !words.is_instance_of::<PyString>() => sequence.to_list()?,
            _ => return Err(expected("a sequence of words", name, words)), // str is one of letters: surely a mistake
        };
        let mut content = Words::default();
        for (i, word) in list.iter().enumerate() {
            let word = word.cast::<PyString>().map_err(|_| expected("str", &format!("{name}[{i}]"), &word))?;
            match word.to_str() {
                Ok(text) => content.push(text),
                Err(_) => content.push(&word.to_string_lossy()), // a lone surrogate, which is no letter
            }
        }
        Ok((list, content))
    }

    /// The alignment of what [`read`] gave.
    fn align(prev: &(Bound<'_, PyList>, Words), new: &(Bound<'_, PyList>, Words)) -> Option<overlap::Overlap> {
        let ((prev, prev_words), (new, new_words)) = (prev, new);
        if prev.len() + new.len() < LARGE {
            prev_words.overlap(new_words)
        } else {
            prev.py().detach(|| prev_words.overlap(new_words))
        }
    }

    /// `prev` followed by what `new` adds, as a new list of the same str objects.
    ///
    /// A suffix of `prev` and a prefix of `new` that are the same speech come once: `prev` up to the first word that is the
    /// same on both sides, and `new` from there on. So a first word of `new` or a last word of `prev` that was cut in half
    /// is replaced by the whole one. Without an overlap (see `find_overlap`) the result is all of `prev` and all of `new`.
    ///
    /// Raises `TypeError` where an argument is not a sequence of str.
    #[pyfunction]
    fn merge_by_overlap<'py>(prev: &Bound<'py, PyAny>, new: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PySequence>> {
        let (prev, new) = (read("prev", prev)?, read("new", new)?);
        let stitch = align(&prev, &new).map(|overlap| (overlap.prev_end, overlap.new_start));
        let (prev_end, new_start) = stitch.unwrap_or((prev.0.len(), 0));
        let rest = new.0.get_slice(new_start, new.0.len());
        prev.0.get_slice(0, prev_end).as_sequence().concat(rest.as_sequence())
    }

    /// Where a suffix of `prev` and a prefix of `new` are the same speech, or None if nothing says that they are.
    ///
    /// The same word on both sides is worth 1, a near word ("browns"/"brown") up to that, another word costs 1, a word in
    /// between that only one side has 1.5, and a first word of `new` or a last word of `prev` that is left over 0.5 (twelve
    /// at most). An overlap is worth at least 1 in all, and has at least one word that is the same; punctuation alone is
    /// none. Where words repeat ("no no no" + "no no no"), it is the longest overlap; of equally good ones, the one whose
    /// merge keeps more words.
    ///
    /// Raises `TypeError` where an argument is not a sequence of str.
    #[pyfunction]
    fn find_overlap(prev: &Bound<'_, PyAny>, new: &Bound<'_, PyAny>) -> PyResult<Option<Overlap>> {
        Ok(align(&read("prev", prev)?, &read("new", new)?).map(Overlap))
    }

    /// How many leading words two sequences have in common, word by word in normalised form.
    ///
    /// Raises `TypeError` where an argument is not a sequence of str.
    #[pyfunction]
    fn agreed_prefix(a: &Bound<'_, PyAny>, b: &Bound<'_, PyAny>) -> PyResult<usize> {
        Ok(read("a", a)?.1.agreed_prefix(&read("b", b)?.1))
    }

    /// The form in which words are compared: letters and digits only, without case, in one Unicode spelling.
    ///
    /// Apostrophes go like all punctuation: "Don't" gives "dont". Punctuation alone gives "".
    #[pyfunction]
    #[pyo3(signature = (word, /))]
    fn normalize(word: &str) -> String {
        overlap::normalize(word)
    }
}
