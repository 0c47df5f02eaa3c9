//! `--label`, `--label-file`, and `list --filter`, which finds containers by their labels, names and status, in
//! docker's words.
//!
//! Must not look at a container, nor touch the system, but for the files that `--label-file` names.

use crate::config::process::read_lines;
use crate::error::{Hint, Parsed, Result};
use crate::gather::Gather;
use crate::text::{has, place_of};

/// The status of a container, in the words of `list`.
const STATES: &str = "created starting running paused restarting ending exited";

/// `list --filter KIND=TEXT`.
#[derive(Debug, PartialEq, Eq)]
pub struct Filter {
    kind: Kind,
    text: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Label,
    Name,
    Status,
}

/// `--label`: returns `KEY=VALUE`. A label is a line of the journal.
pub fn label(text: &str) -> Parsed<&str> {
    if key(text).is_empty() || text.contains(char::is_control) {
        return Err("not a label: use KEY or KEY=VALUE, on one line");
    }
    Ok(if has(text, b'=') { text } else { format!("{text}=").leak() })
}

/// The labels of files, and then those that are given one by one. Of two with the same key the last one counts.
pub fn read(files: &[&str], given: Vec<&'static str>) -> Result<Vec<&'static str>> {
    let mut labels = Vec::new();
    for path in files {
        read_lines("--label-file", path, &mut |line| label(line).map(|label| labels.push(label)))?;
    }
    labels.extend(given);
    Ok(labels)
}

/// The key of a label.
pub fn key(label: &str) -> &str {
    label.split('=').next().unwrap_or_default()
}

/// `list --filter`.
pub fn filter(text: &'static str) -> Parsed<Filter> {
    const HINT: Hint = "use label=KEY[=VALUE], name=PART or status=created|starting|running|paused|restarting|exited";
    let (kind, text) = text.split_once('=').ok_or(HINT)?;
    let kind = match kind {
        "label" => Kind::Label,
        "name" if part_of_name(text).bytes().all(|c| c.is_ascii_alphanumeric() || b"_.+-".contains(&c)) => Kind::Name,
        "status" if place_of(text, STATES).is_some() => Kind::Status,
        _ => return Err(HINT),
    };
    if key(text).is_empty() { Err(HINT) } else { Ok(Filter { kind, text }) }
}

/// Whether a container passes: all filters of labels, and one of each other kind, as with docker.
pub fn passes(filters: &[Filter], name: &str, status: &str, labels: &[String]) -> bool {
    let matches = |Filter { kind, text }: &Filter| match kind {
        Kind::Label => labels.iter().any(|label| label == text || key(label) == *text),
        Kind::Name => matches_name(text, name),
        Kind::Status => status == *text,
    };
    [Kind::Label, Kind::Name, Kind::Status].into_iter().all(|kind| {
        let of_kind: Vec<bool> = filters.iter().filter(|filter| filter.kind == kind).map(matches).list();
        of_kind.is_empty() || if kind == Kind::Label { !of_kind.contains(&false) } else { of_kind.contains(&true) }
    })
}

/// Without `^` before it, which stands for the beginning of a name, and `$` behind it for the end.
fn part_of_name(text: &str) -> &str {
    let text = text.strip_prefix('^').unwrap_or(text);
    text.strip_suffix('$').unwrap_or(text)
}

fn matches_name(text: &str, name: &str) -> bool {
    let part = part_of_name(text);
    match (text.starts_with('^'), text.ends_with('$')) {
        (true, true) => name == part,
        (true, false) => name.starts_with(part),
        (false, true) => name.ends_with(part),
        // As str::contains: see `has`.
        (false, false) => name.as_bytes().windows(part.len().max(1)).any(|here| here == part.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::check;

    #[test]
    fn labels_have_a_key_and_are_one_line() {
        let good = [("a", "a="), ("a=", "a="), ("a.b/c=d e=f", "a.b/c=d e=f"), ("ä=\"", "ä=\"")];
        check(
            label,
            good,
            &["", "=", "=b", "a=b\nkept", "a\0=b", "a=\u{9b}"],
            "not a label: use KEY or KEY=VALUE, on one line",
        );
    }

    #[test]
    fn filters_have_a_known_kind_and_a_text_that_can_match() {
        for good in ["label=a", "label=a=", "label=a=b=c", "name=web", "name=^web$", "name=w.b+1", "status=exited"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "label", "label=", "label==b", "name=", "name=a*", "name=^a^", "status=", "status=dead", "id=a"]
        {
            assert!(filter(bad).is_err_and(|hint| hint.starts_with("use label=KEY")), "{bad}");
        }
    }

    #[test]
    fn a_container_passes_all_labels_and_one_name_and_one_status() {
        let labels = ["tier=web", "empty="].map(String::from);
        for (filters, wanted) in [
            (&[][..], true),
            (&["label=tier"], true),
            (&["label=tier=web"], true),
            (&["label=tier=we"], false),
            (&["label=ti"], false),
            (&["label=empty"], true),
            (&["label=empty="], true),
            (&["label=tier", "label=empty"], true),
            (&["label=tier", "label=other"], false),
            (&["name=b"], true),
            (&["name=^b"], false),
            (&["name=^w"], true),
            (&["name=b$"], true),
            (&["name=^web$"], true),
            (&["name=^we$"], false),
            (&["name=x", "name=we"], true),
            (&["status=running"], true),
            (&["status=exited"], false),
            (&["status=exited", "status=running"], true),
            (&["status=running", "name=x"], false),
        ] {
            let filters: Vec<Filter> = filters.iter().filter_map(|text| filter(text).ok()).collect();
            assert_eq!(passes(&filters, "web", "running", &labels), wanted, "{filters:?}");
        }
    }
}
