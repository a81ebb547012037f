//! What every merge must hold, by example and for random words.

use proptest::collection::vec;
use proptest::prelude::*;
use strops::{agreed_prefix, find_overlap, merge_by_overlap, normalize};

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn merged(prev: &str, new: &str) -> String {
    merge_by_overlap(&words(prev), &words(new)).join(" ")
}

#[test]
fn overlaps() {
    for (prev, new, expected) in [
        ("The quick brown fox", "brown fox jumps", "The quick brown fox jumps"),
        ("the quick brown fox.", "Brown, fox jumps", "the quick Brown, fox jumps"), // new wins from the first match on
        ("we saw the quick brown fox jum", "ick brown fox jumps over", "we saw the quick brown fox jumps over"),
        ("he said don't go there", "dont go there now", "he said dont go there now"),
        ("we went to the", "the dog came", "we went to the dog came"), // one word, edge to edge
        ("some browns foxes run", "brown foxes run home", "some browns foxes run home"), // a near word is no stitch
        ("one two , three four", "... two - three four five", "one two - three four five"), // punctuation is transparent
        ("a b c d e f g", "b c x d e f g h", "a b c x d e f g h"), // a word that only one side has
        ("left over at the end um", "over at the end and on", "left over at the end and on"),
        ("it was", "was then it was so", "it was then it was so"), // equally good, once lossless
        ("no no no", "no no no", "no no no"),                      // repeated words: the longest overlap
        ("oh no no no", "no no yes", "oh no no no yes"),
        ("all the same words", "all the same words", "all the same words"),
        ("d", "d e", "d e"),
        ("Ω ΣΟΦΟΣ cafe\u{301}", "σοφος caf\u{e9} zwei", "Ω σοφος caf\u{e9} zwei"),
    ] {
        assert_eq!(merged(prev, new), expected, "{prev} + {new}");
    }
}

#[test]
fn no_overlap_loses_nothing() {
    for (prev, new) in [
        ("a b c d .", "completely new sentence here ."),
        ("i like the cat", "then the dog came home"),
        ("over there .", ". and then"),
        ("? ! ...", "? ! ..."),
        ("in the cat sat on", "in the dog house"), // two words the same, three left over
        ("", "some words"),
        ("some words", ""),
        ("", ""),
        ("browns", "brown fox"), // near, but nothing is the same
    ] {
        assert_eq!(find_overlap(&words(prev), &words(new)), None, "{prev} + {new}");
        assert_eq!(merged(prev, new), [words(prev), words(new)].concat().join(" "));
    }
}

#[test]
fn indices_count_punctuation() {
    let overlap = find_overlap(&words("- one , two ; three"), &words("... two three four")).unwrap();
    assert_eq!((overlap.prev_end, overlap.new_start, overlap.matched, overlap.score), (3, 1, 2, 200));
}

#[test]
fn long_inputs() {
    let number = |i: i32| i.to_string();
    let all: Vec<String> = (0..15_000).map(number).collect();
    assert_eq!(merge_by_overlap(&all[..10_000], &all[5_000..]), all);
    let mut garbled = all[..10_000].to_vec();
    for i in (0..10_000).step_by(7) {
        garbled[i] = "garbled".to_owned();
    }
    let merged = merge_by_overlap(&garbled, &all[5_000..]);
    assert_eq!((merged.len(), &merged[5_001..]), (15_000, &all[5_001..]));
    // thirteen last words of prev that new does not have are more than garbled, however much is the same before them
    let odd: Vec<String> = (0..13).map(|i| format!("odd{i}")).collect();
    let new = &all[5_000..10_050];
    assert_eq!(merge_by_overlap(&[&all[..10_000], &odd[..12]].concat(), new), all[..10_050]);
    let prev = [&all[..10_000], &odd[..]].concat();
    assert_eq!(merge_by_overlap(&prev, new), [&prev[..], new].concat());
    let equal = vec!["no"; 10_000];
    assert_eq!(merge_by_overlap(&equal, &equal), equal);
    assert_eq!(merge_by_overlap(&equal[..3], &equal), equal);
}

#[test]
fn agreement() {
    for (a, b, expected) in [
        ("so it goes", "so it goes", 3),
        ("So, it goes", "so it went", 2),
        ("so it", "so it goes", 2),
        ("so , it goes", "so it goes", 1), // word by word: "," is not "it"
        ("so , it", "so . it", 3),
        ("so", "so ,", 1),
        ("", "so", 0),
        ("then", "so", 0),
    ] {
        assert_eq!(agreed_prefix(&words(a), &words(b)), expected, "{a} / {b}");
    }
}

#[test]
fn normal_forms() {
    for (word, expected) in [
        ("Brown,", "brown"),
        ("\"Don\u{2019}t\"", "dont"),
        ("don\u{2bc}t", "dont"),
        ("rock-n-roll!", "rocknroll"),
        ("3.5%", "35"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("STRAẞE", "strasse"),
        ("ὈΔΥΣΣΕΎΣ", "ὀδυσσεύσ"),
        ("\u{fb01}n", "fin"),
        ("가나", "가나"),
        ("हिन्दी", "हिन्दी"),
        ("♪", ""),
        ("—", ""),
        ("\u{301}", ""),
        ("", ""),
    ] {
        assert_eq!(normalize(word), expected, "{word}");
    }
}

/// Few distinct words, near words and punctuation among them: repetitions and chance matches all the time.
fn text() -> impl Strategy<Value = Vec<String>> {
    vec(prop_oneof![8 => "[ab]{1,2}|the|then|fox|Fox,|foxes", 1 => "[.,?]", 1 => "\\PC{0,3}"], 0..30)
}

/// A text of different words, cut into windows that overlap by at least five; the words at inner edges are garbled.
fn windows() -> impl Strategy<Value = (Vec<String>, Vec<Vec<String>>)> {
    let cuts = vec((8..20_usize, 5..8_usize), 2..6);
    (cuts, vec("[a-z]{3,9}", 6)).prop_map(|(cuts, garbage)| {
        let total: usize = cuts.iter().map(|(length, _)| length).sum();
        let text: Vec<String> = (0..total).map(|i| format!("{i:03}word{i:03}")).collect();
        let mut start = 0;
        let mut windows: Vec<Vec<String>> = Vec::new();
        for (k, (length, overlap)) in cuts.iter().enumerate() {
            let mut window = text[start..start + length].to_vec();
            if k > 0 {
                window[0].drain(..5); // cut in half
            }
            if k + 1 < cuts.len() {
                window[length - 1].clone_from(&garbage[k]);
            }
            windows.push(window);
            start += length - overlap;
        }
        let end = start + cuts.last().map_or(0, |(_, overlap)| *overlap);
        (text[..end].to_vec(), windows)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_is_a_beginning_and_an_end(prev in text(), new in text()) {
        let merged = merge_by_overlap(&prev, &new);
        match find_overlap(&prev, &new) {
            None => prop_assert_eq!(merged, [prev, new].concat()),
            Some(overlap) => {
                let (i, j) = (overlap.prev_end, overlap.new_start);
                prop_assert_eq!(merged, [&prev[..i], &new[j..]].concat());
                prop_assert_eq!(normalize(&prev[i]), normalize(&new[j]));
                prop_assert_ne!(normalize(&prev[i]), "");
                prop_assert!(1 <= overlap.matched && overlap.matched <= (prev.len() - i).min(new.len() - j));
                prop_assert!(100 <= overlap.score);
            }
        }
    }

    #[test]
    fn the_same_again_changes_nothing(text in text()) {
        let spoken = text.iter().any(|word| !normalize(word).is_empty());
        let expected = if spoken { text.clone() } else { [text.clone(), text.clone()].concat() };
        prop_assert_eq!(merge_by_overlap(&text, &text), expected);
    }

    #[test]
    fn nothing_is_lost_where_no_word_is_shared(prev in vec("[a-m]{1,6}", 0..30), new in vec("[n-z]{1,6}", 0..30)) {
        prop_assert_eq!(merge_by_overlap(&prev, &new), [prev, new].concat());
    }

    #[test]
    fn windows_give_the_text_back((text, windows) in windows()) {
        let merged = windows[1..].iter().fold(windows[0].clone(), |all, window| merge_by_overlap(&all, window));
        prop_assert_eq!(merged, text);
    }

    #[test]
    fn normalize_is_idempotent_and_blind_to_case(word in "\\PC{0,8}") {
        let normal = normalize(&word);
        prop_assert_eq!(&normalize(&normal), &normal);
        prop_assert_eq!(&normalize(&word.to_lowercase()), &normal);
    }
}
