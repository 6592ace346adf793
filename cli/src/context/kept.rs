//! The context file of `mcpctl dev` while it starts. The file says where the gateway is, so it must not be there before the
//! gateway is; and what is saved in it is nowhere else, so it is put aside and never removed.
//!
//! Whatever happens meanwhile, the file comes back: when the start fails, and at the next start where the process was killed.

use std::path::{Path, PathBuf};

use super::{ContextFile, Contexts, read_contexts, sync_folder};
use crate::error::{Error, Result};
use crate::output::eprint;

/// A context file that was put aside. Dropped without `replace`, it is put back.
#[derive(Debug)]
pub struct KeptContexts {
    file: ContextFile,
    kept: PathBuf,
    is_over: bool,
}

impl KeptContexts {
    /// Puts a context file aside, with what an earlier start has left there.
    pub fn put_aside(file: ContextFile) -> Result<Self> {
        let kept = kept_path(&file);
        if kept.exists() {
            restore(&file, &kept)?;
        }
        file.locked(|path| {
            // What cannot be read is not put aside: it is for its owner to mend.
            read_contexts(path)?;
            if path.exists() { rename(path, &kept) } else { Ok(()) }
        })?;
        Ok(Self { file, kept, is_over: false })
    }

    /// Returns what was saved in the file.
    pub fn contexts(&self) -> Result<Contexts> {
        read_contexts(&self.kept)
    }

    /// Writes the file anew, with what was saved in it. Only when that is on disk, what was put aside is removed.
    pub fn replace(mut self, change: impl FnOnce(&mut Contexts)) -> Result {
        let earlier = self.contexts()?;
        self.file.edit(|contexts| {
            contexts.add(earlier);
            change(contexts);
            Ok(())
        })?;
        self.is_over = true;
        remove(&self.kept)
    }
}

impl Drop for KeptContexts {
    fn drop(&mut self) {
        if !self.is_over
            && let Err(error) = restore(&self.file, &self.kept)
        {
            eprint(format!("warning: the context file stays in {}: {error}", self.kept.display()));
        }
    }
}

/// Puts a file back. Where there is another one meanwhile, it gets what it lacks.
fn restore(file: &ContextFile, kept: &Path) -> Result {
    if !kept.exists() {
        return Ok(());
    }
    let is_back = file.locked(|path| {
        let is_free = !path.exists();
        if is_free {
            rename(kept, path)?;
        }
        Ok(is_free)
    })?;
    if is_back {
        return Ok(());
    }
    let earlier = read_contexts(kept)?;
    file.edit(|contexts| {
        contexts.add(earlier);
        Ok(())
    })?;
    remove(kept)
}

fn kept_path(file: &ContextFile) -> PathBuf {
    let mut name = file.target().into_os_string();
    name.push(".kept");
    name.into()
}

fn rename(from: &Path, to: &Path) -> Result {
    let failed = |error: std::io::Error| {
        Error::failure(format!("cannot rename {} to {}: {error}", from.display(), to.display()))
    };
    std::fs::rename(from, to).and_then(|()| sync_folder(to)).map_err(failed)
}

fn remove(path: &Path) -> Result {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::failure(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Context, SavedToken, Secret};

    const CONTEXT: &str = "dev";

    fn file() -> (tempfile::TempDir, ContextFile) {
        let folder = tempfile::tempdir().unwrap();
        let file = ContextFile::locate(Some(folder.path().join("mcpctl.yaml")), None);
        (folder, file)
    }

    fn save(file: &ContextFile, token: &str) {
        file.edit(|contexts| {
            let context = contexts.contexts.entry(CONTEXT.to_owned()).or_default();
            let saved = SavedToken { bearer: Secret::new(token), ..SavedToken::default() };
            context.tokens.insert(token.to_owned(), saved);
            Ok(())
        })
        .unwrap();
    }

    fn tokens(file: &ContextFile) -> Vec<String> {
        let contexts = file.read().unwrap().contexts;
        contexts.get(CONTEXT).map(|context| context.tokens.keys().cloned().collect()).unwrap_or_default()
    }

    fn new_context(contexts: &mut Contexts) {
        let control = Some("http://new".to_owned());
        let context = contexts.contexts.remove(CONTEXT).unwrap_or_default();
        contexts.contexts.insert(CONTEXT.to_owned(), Context { control, ..context });
    }

    #[test]
    fn a_start_that_fails_puts_every_byte_back() {
        let (_folder, file) = file();
        save(&file, "laptop");
        let before = format!("# mine\n{}", std::fs::read_to_string(file.path()).unwrap());
        std::fs::write(file.path(), &before).unwrap();
        let kept = KeptContexts::put_aside(file.clone()).unwrap();
        assert!(!file.path().exists());
        drop(kept);
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), before);
    }

    #[test]
    fn a_start_that_was_killed_loses_nothing() {
        let (folder, file) = file();
        save(&file, "laptop");
        std::mem::forget(KeptContexts::put_aside(file.clone()).unwrap());
        // Another command has saved something meanwhile.
        save(&file, "phone");
        let kept = KeptContexts::put_aside(file.clone()).unwrap();
        assert!(!file.path().exists());
        kept.replace(new_context).unwrap();
        assert_eq!(tokens(&file), ["laptop", "phone"]);
        assert_eq!(file.read().unwrap().contexts[CONTEXT].control.as_deref(), Some("http://new"));
        assert!(!folder.path().join("mcpctl.yaml.kept").exists());
    }

    #[test]
    fn a_symbolic_link_stays_one() {
        let (folder, file) = file();
        let own = folder.path().join("dotfiles.yaml");
        std::os::unix::fs::symlink(&own, file.path()).unwrap();
        save(&file, "laptop");
        assert_eq!(std::fs::read_link(file.path()).unwrap(), own);
        let kept = KeptContexts::put_aside(file.clone()).unwrap();
        assert!(!file.path().exists());
        kept.replace(new_context).unwrap();
        assert_eq!(std::fs::read_link(file.path()).unwrap(), own);
        assert_eq!(tokens(&file), ["laptop"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_stays_where_it_is() {
        let (_folder, file) = file();
        std::fs::write(file.path(), "contexts: [").unwrap();
        KeptContexts::put_aside(file.clone()).unwrap_err();
        assert_eq!(std::fs::read_to_string(file.path()).unwrap(), "contexts: [");
    }
}
