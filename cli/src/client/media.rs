//! Contents that are no text: saved into a folder, shown where the terminal says that it can, or named.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mcp::json;

use crate::client::signature::text;
use crate::error::{Error, Result};
use crate::output;

/// Bytes of base64 in one piece of an image for kitty.
const PIECE: usize = 4096;

/// The flag of every command that gets contents.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct MediaFlags {
    /// Save images, audio and other binary contents in this folder, which is created
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

/// A content that is no text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Medium {
    /// `image`, `audio` or `resource`.
    kind: String,
    /// Its media type, as the server says.
    media: String,
    /// Base64, as the server wrote it.
    data: String,
}

impl Medium {
    /// Reads a content with binary data; `None` for another one.
    pub fn read(raw: &str) -> Option<Self> {
        let members = json::members(raw, ["type", "mimeType", "data", "resource"]).ok()?;
        let [kind, media, data, resource] = members;
        let kind = text(kind);
        if kind == "resource" {
            let [media, blob] = json::members(resource?, ["mimeType", "blob"]).ok()?;
            return Some(Self { kind, media: text(media), data: text(Some(blob?)) });
        }
        matches!(kind.as_str(), "image" | "audio").then(|| Self {
            kind,
            media: text(media),
            data: text(data),
        })
    }

    /// Reads a part of a resource that is binary.
    pub fn of_resource(raw: &str) -> Option<Self> {
        let [media, blob] = json::members(raw, ["mimeType", "blob"]).ok()?;
        Some(Self { kind: "resource".to_owned(), media: text(media), data: text(Some(blob?)) })
    }

    /// Returns its bytes.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let bytes = BASE64_STANDARD.decode(&self.data);
        bytes.map_err(|error| Error::failure(format!("the {} is not base64: {error}", self.kind)))
    }

    /// Names it in one line.
    pub fn placeholder(&self) -> String {
        let padding = self.data.bytes().rev().take_while(|byte| *byte == b'=').count();
        let bytes = (self.data.len() / 4 * 3).saturating_sub(padding);
        let line = format!(
            "[{} {}, about {bytes} bytes; use --save DIR to save it, or -o json to print it]",
            self.kind, self.media
        );
        printable::line(&line).into_owned()
    }

    /// The end of its file's name, from its media type.
    fn extension(&self) -> String {
        let subtype = self.media.split(';').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let known = match subtype.trim() {
            "jpeg" => "jpg",
            "svg+xml" => "svg",
            "mpeg" => "mp3",
            "x-wav" | "wave" => "wav",
            "plain" => "txt",
            other => other,
        };
        let is_plain =
            !known.is_empty() && known.len() <= 8 && known.bytes().all(|b| b.is_ascii_alphanumeric());
        if is_plain { known.to_ascii_lowercase() } else { "bin".to_owned() }
    }
}

/// Prints media, and numbers the files that it saves.
pub struct MediaPrinter<'f> {
    flags: &'f MediaFlags,
    /// The start of the names of files.
    stem: String,
    viewer: Option<Viewer>,
}

impl<'f> MediaPrinter<'f> {
    /// `name` is what the contents came from.
    pub fn new(flags: &'f MediaFlags, name: &str) -> Self {
        let is_plain = |letter: char| letter.is_alphanumeric() || "_-.".contains(letter);
        let stem: String =
            name.chars().map(|letter| if is_plain(letter) { letter } else { '-' }).take(64).collect();
        let stem = match stem.trim_matches(['-', '.']) {
            "" => "content".to_owned(),
            stem => stem.to_owned(),
        };
        Self { flags, stem, viewer: Viewer::of_terminal() }
    }

    /// Whether media are saved.
    pub fn saves(&self) -> bool {
        self.flags.save.is_some()
    }

    /// Saves a content, shows it, or names it.
    pub fn print(&self, medium: &Medium) -> Result {
        if let Some(folder) = &self.flags.save {
            let path = self.save(folder, medium)?;
            let line = format!("[{} {} saved as {}]", medium.kind, medium.media, path.display());
            return output::print(&printable::line(&line));
        }
        let shown = self.viewer.filter(|_| medium.kind == "image").and_then(|viewer| viewer.sequence(medium));
        match shown {
            Some(sequence) => output::print_sequence(&sequence),
            None => output::print(&medium.placeholder()),
        }
    }

    /// Saves a content beside output for programs, if it is to be saved.
    pub fn save_beside(&self, medium: &Medium) -> Result {
        let Some(folder) = &self.flags.save else { return Ok(()) };
        output::eprint(format!("saved {}", self.save(folder, medium)?.display()));
        Ok(())
    }

    /// Writes a file of its own: none that is there is replaced.
    fn save(&self, folder: &Path, medium: &Medium) -> Result<PathBuf> {
        let bytes = medium.bytes()?;
        let failure =
            |path: &Path, error| Error::failure(format!("cannot write {}: {error}", path.display()));
        std::fs::create_dir_all(folder).map_err(|error| failure(folder, error))?;
        for number in 1.. {
            let path = folder.join(format!("{}-{number}.{}", self.stem, medium.extension()));
            match std::fs::File::create_new(&path) {
                Ok(mut file) => {
                    file.write_all(&bytes).map_err(|error| failure(&path, error))?;
                    return Ok(path);
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failure(&path, error)),
            }
        }
        Err(Error::failure("there is no name left for a file"))
    }
}

/// How a terminal shows images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Viewer {
    /// iTerm2 and WezTerm.
    Inline,
    /// kitty: PNG only.
    Kitty,
}

impl Viewer {
    /// Returns that of the terminal on stdout, as far as it says so.
    fn of_terminal() -> Option<Self> {
        let value = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        if std::io::stdout().is_terminal() { Self::known(value) } else { None }
    }

    /// Looks at the variables that terminals set. What stands between, such as tmux, passes no images on.
    fn known(value: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if value("TMUX").is_some() || value("NO_COLOR").is_some() || value("TERM").as_deref() == Some("dumb")
        {
            return None;
        }
        if matches!(value("TERM_PROGRAM").as_deref(), Some("iTerm.app" | "WezTerm")) {
            return Some(Self::Inline);
        }
        value("KITTY_WINDOW_ID").map(|_| Self::Kitty)
    }

    /// Returns the sequence that shows an image. It holds nothing that the server wrote: the data is encoded anew.
    fn sequence(self, medium: &Medium) -> Option<String> {
        let bytes = medium.bytes().ok()?;
        let data = BASE64_STANDARD.encode(&bytes);
        match self {
            Self::Inline => Some(format!("\u{1b}]1337;File=inline=1;size={}:{data}\u{7}\n", bytes.len())),
            Self::Kitty if medium.media == "image/png" => Some(kitty(&data)),
            Self::Kitty => None,
        }
    }
}

fn kitty(data: &str) -> String {
    let pieces: Vec<_> = data.as_bytes().chunks(PIECE).map(String::from_utf8_lossy).collect();
    let mut sequence = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        let first = if index == 0 { "a=T,f=100," } else { "" };
        let more = u8::from(index + 1 < pieces.len());
        sequence.push_str(&format!("\u{1b}_G{first}m={more};{piece}\u{1b}\\"));
    }
    sequence + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(media: &str, data: &str) -> Medium {
        Medium { kind: "image".into(), media: media.into(), data: data.into() }
    }

    #[test]
    fn media_are_named_in_one_line() {
        let raw = r#"{"type":"image","mimeType":"image/png\u001b[2J","data":"AAAA"}"#;
        let medium = Medium::read(raw).unwrap();
        assert_eq!(
            medium.placeholder(),
            "[image image/png\\u{1b}[2J, about 3 bytes; use --save DIR to save it, or -o json to print it]"
        );
        assert_eq!(Medium::read(r#"{"type":"text","text":"a"}"#), None);
        let resource =
            r#"{"type":"resource","resource":{"uri":"a","mimeType":"application/pdf","blob":"AA=="}}"#;
        assert_eq!(Medium::read(resource).unwrap().extension(), "pdf");
    }

    #[test]
    fn files_are_named_by_their_type_and_replace_none() {
        for (media, extension) in [
            ("image/jpeg", "jpg"),
            ("audio/x-wav", "wav"),
            ("image/../x", "x"),
            ("", "bin"),
            ("a/b.c", "bin"),
        ] {
            assert_eq!(image(media, "").extension(), extension, "{media}");
        }
        let folder = tempfile::tempdir().unwrap();
        let flags = MediaFlags { save: Some(folder.path().join("new")) };
        let printer = MediaPrinter::new(&flags, "../a b");
        let save = |data: &str| printer.save(&folder.path().join("new"), &image("image/png", data));
        for (number, data) in ["AAAA", "AQID"].iter().enumerate() {
            let path = save(data).unwrap();
            assert_eq!(path, folder.path().join(format!("new/a-b-{}.png", number + 1)));
        }
        assert_eq!(std::fs::read(folder.path().join("new/a-b-2.png")).unwrap(), [1, 2, 3]);
        assert!(save("?").unwrap_err().to_string().contains("is not base64"));
    }

    #[test]
    fn images_are_shown_where_the_terminal_says_that_it_can() {
        let known = |variables: &[(&str, &str)]| {
            Viewer::known(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(known(&[("TERM_PROGRAM", "iTerm.app")]), Some(Viewer::Inline));
        assert_eq!(known(&[("TERM_PROGRAM", "WezTerm"), ("TMUX", "x")]), None);
        assert_eq!(known(&[("KITTY_WINDOW_ID", "1")]), Some(Viewer::Kitty));
        assert_eq!(known(&[("KITTY_WINDOW_ID", "1"), ("NO_COLOR", "1")]), None);
        assert_eq!(known(&[("TERM", "xterm")]), None);
        let png = image("image/png", "AQID");
        assert_eq!(Viewer::Inline.sequence(&png).unwrap(), "\u{1b}]1337;File=inline=1;size=3:AQID\u{7}\n");
        assert_eq!(Viewer::Kitty.sequence(&png).unwrap(), "\u{1b}_Ga=T,f=100,m=0;AQID\u{1b}\\\n");
        assert_eq!(Viewer::Kitty.sequence(&image("image/gif", "AQID")), None);
        // What is no base64 reaches no terminal.
        assert_eq!(Viewer::Inline.sequence(&image("image/png", "\u{1b}[2J")), None);
        let long = kitty(&"A".repeat(PIECE + 4));
        assert!(long.contains("a=T,f=100,m=1;A") && long.ends_with("\u{1b}_Gm=0;AAAA\u{1b}\\\n"), "{long}");
    }
}
