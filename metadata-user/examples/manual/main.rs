//! Writes what the packages have for people and shells: `manual DIRECTORY DATE` fills its `man` with a page for each command, one
//! for the configuration and one for documents, and its `completions` with those of bash, zsh and fish.
//!
//! Promises: everything is made of what the daemon itself reads: the command line, the declarations of the configuration's keys
//! and the types of documents. It is an example, so that the daemon carries none of this.

mod formats;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use metadata_user::{cli, config, source};

use formats::Format;

/// What the pages say beside `SEE ALSO`: the program, and the section of commands for administrators.
const NAME: &str = "metadatad";
const SECTION: &str = "8";

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1).map(PathBuf::from).ok_or("name the directory to write to")?;
    let date = std::env::args().nth(2).ok_or("name the date that the pages carry")?;
    let (man, completions) = (directory.join("man"), directory.join("completions"));
    for directory in [&man, &completions] {
        // Pages of commands that are gone must not be packaged.
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
    }
    let mut command = cli::command();
    command.build();
    pages(&command, &man, &date)?;
    let formats = [
        Format {
            name: "metadatad.toml",
            about: "configuration of metadatad",
            text: "metadatad reads this TOML file when it starts: /etc/metadatad/metadatad.toml, or what --config names. Every key \
                   may be left out. Durations are strings: a whole number with ms, s or m. Paths are absolute. `metadatad \
                   check-config` validates a changed file, and `metadatad schema example` prints one with every key.",
            schema: config::reference::schema(),
            is_configuration: true,
        },
        Format {
            name: "metadatad-controller.toml",
            about: "configuration of the controller of metadatad",
            text: "metadatad controller run reads this TOML file when it starts: /etc/metadatad/controller.toml, or what --config \
                   names. Durations are strings: a whole number with ms, s or m. Paths are absolute. `metadatad controller \
                   check-config` validates a changed file, and `metadatad schema controller-example` prints one with every key.",
            schema: config::reference::controller_schema(),
            is_configuration: true,
        },
        Format {
            name: "metadatad-document",
            about: "what metadatad knows of one instance",
            text: "With the sources directory and etcd every instance has one JSON document, from which its metadata is rendered. \
                   A member that is not required may be left out, or be null. `metadatad instance validate` checks a document, \
                   and `metadatad schema` prints the JSON Schema of which this page is made.",
            schema: source::wire::schema(),
            is_configuration: false,
        },
    ];
    for format in &formats {
        fs::write(man.join(format!("{}.5", format.name)), format.page(&date)?)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command, NAME, &completions)?;
    }
    Ok(())
}

/// Writes the page of a command, and of those below it.
fn pages(command: &Command, directory: &Path, date: &str) -> Result<(), Box<dyn Error>> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        pages(below, directory, date)?;
    }
    let page = Man::new(command.clone()).section(SECTION).manual("metadatad").date(date).source(source_name());
    let mut text = Vec::new();
    page.render(&mut text)?;
    see_also(command, &mut text)?;
    fs::write(directory.join(page.get_filename()), text)?;
    Ok(())
}

/// Which release the pages are of.
fn source_name() -> String {
    format!("{NAME} {}", env!("CARGO_PKG_VERSION"))
}

fn see_also(command: &Command, page: &mut Vec<u8>) -> Result<(), Box<dyn Error>> {
    let others = ["metadatad(8)", "metadatad.toml(5)", "metadatad-document(5)", "systemd.service(5)"];
    let own = format!("{}({SECTION})", command.get_display_name().unwrap_or(NAME));
    let others: Vec<_> = others.into_iter().filter(|other| *other != own).collect();
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text([roman(others.join(", "))]);
    // Without the definitions that a page begins with.
    page.extend_from_slice(roff.to_roff().as_bytes());
    Ok(())
}
