//! The committed run: the figures that README shows.
//!
//! One run is committed, as `tests/bench/results/measured.json`, with its page and plots beside it. README's block between
//! two marks holds a few of its figures ([`highlights`]), and is made from it and from nothing else; a test fails when one
//! of them was changed alone.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::highlights;
use crate::page;
use crate::plot;
use crate::result::Run;

const BEGIN: &str = "<!-- Written by `cargo xtask bench publish`; what is changed here by hand is lost. -->";
const END: &str = "<!-- The end of what `cargo xtask bench publish` wrote. -->";
/// As seen from README.
const DIRECTORY: &str = "tests/bench/results";
const NAME: &str = "measured";
/// A file, as it is to be.
type Wanted = (PathBuf, String);

/// Commits a run, as far as the tree goes: result, page, plots and README's block.
pub(crate) fn publish(run: &Run) -> Result<()> {
    if run.machine.commit.ends_with('+') {
        eprintln!(
            "the tree had changes that no commit has when this was measured; README will say `{}`",
            run.machine.commit
        );
    }
    let root = root();
    let directory = root.join(DIRECTORY);
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    }
    fs::create_dir_all(directory.join(NAME)).with_context(|| format!("making {}", directory.display()))?;
    run.write(&directory.join(NAME).with_extension("json"))?;
    for (path, text) in files(run, &root)? {
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    eprintln!("written: README.md and {DIRECTORY}; commit both");
    Ok(())
}

/// Returns every file that follows from a run, but for the run itself.
fn files(run: &Run, root: &Path) -> Result<Vec<Wanted>> {
    let (readme, directory) = (root.join("README.md"), root.join(DIRECTORY));
    let plots = plot::all(run);
    let text = fs::read_to_string(&readme).with_context(|| format!("reading {}", readme.display()))?;
    let mut files = vec![
        (readme, replaced(&text, &highlights::block(run, DIRECTORY, NAME))?),
        (directory.join(NAME).with_extension("md"), page::text(run, &plots, NAME)),
    ];
    files.extend(plots.into_iter().map(|plot| (directory.join(NAME).join(plot.file), plot.svg)));
    Ok(files)
}

/// Puts the block between the two marks of a text.
fn replaced(text: &str, block: &str) -> Result<String> {
    let (Some((before, rest)), true) = (text.split_once(BEGIN), text.matches(BEGIN).count() == 1) else {
        bail!("README.md has not one line `{BEGIN}`");
    };
    let Some((_, after)) = rest.split_once(END) else {
        bail!("README.md has no line `{END}` after the one where the figures begin");
    };
    Ok(format!("{before}{BEGIN}\n{block}{END}{after}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readme_and_pages_are_those_of_the_committed_run() {
        let root = root();
        let run = Run::read(&root.join(DIRECTORY).join(NAME).with_extension("json")).unwrap();
        let wanted = files(&run, &root).unwrap();
        for (path, text) in &wanted {
            let found = fs::read_to_string(path).unwrap_or_default();
            let remedy = format!("cargo xtask bench publish {DIRECTORY}/{NAME}.json");
            assert!(found == *text, "{} is not what the committed run gives: `{remedy}`", path.display());
        }
        let plots = fs::read_dir(root.join(DIRECTORY).join(NAME)).unwrap().count();
        assert_eq!(plots, wanted.len() - 2, "{DIRECTORY}/{NAME} holds plots of another run");
    }

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        for broken in ["", BEGIN, END, &format!("{END}{BEGIN}"), &format!("{BEGIN}{BEGIN}{END}")] {
            assert!(replaced(broken, "new").is_err(), "{broken}");
        }
    }
}
