//! The contexts of two files, read as one: the user's own, and beneath them those of `mcpctl dev`, whose folder may be removed at
//! any time. Pure.

use super::Contexts;

/// What is in the two files.
#[derive(Debug, Default)]
pub(super) struct Both {
    pub(super) own: Contexts,
    pub(super) dev: Contexts,
}

impl Both {
    /// All contexts. Of two of the same name, and as the current one, the user's own counts.
    pub(super) fn merged(&self) -> Contexts {
        let mut all = self.dev.clone();
        all.contexts.extend(self.own.contexts.clone());
        if self.own.current_context.is_some() {
            all.current_context.clone_from(&self.own.current_context);
        }
        all
    }

    /// Whether a context is in the file of `mcpctl dev` alone.
    pub(super) fn is_beneath(&self, name: &str) -> bool {
        self.dev.contexts.contains_key(name) && !self.own.contexts.contains_key(name)
    }

    /// Takes all contexts apart again, as they are now: each stays in its file, and new ones are the user's own.
    pub(super) fn apart(&self, now: Contexts) -> Self {
        let current = now.current_context;
        let is_same = current == self.merged().current_context;
        let (dev, own) = now.contexts.into_iter().partition(|(name, _)| self.is_beneath(name));
        let (own, mut dev) = (
            Contexts { contexts: own, current_context: self.own.current_context.clone() },
            Contexts { contexts: dev, current_context: self.dev.current_context.clone() },
        );
        let hidden = self.dev.contexts.iter().filter(|(name, _)| self.own.contexts.contains_key(*name));
        dev.contexts.extend(hidden.map(|(name, context)| (name.clone(), context.clone())));
        let mut both = Self { own, dev };
        if !is_same {
            both.make_current(current);
        }
        both
    }

    /// Makes a context the current one, or none: in the file of `mcpctl dev` as long as there is no other.
    fn make_current(&mut self, name: Option<String>) {
        let is_beneath = name.as_deref().is_some_and(|name| self.is_beneath(name));
        if is_beneath && self.own == Contexts::default() {
            self.dev.current_context = name;
            return;
        }
        if name.is_none() {
            self.dev.current_context = None;
        }
        self.own.current_context = name;
    }
}

#[cfg(test)]
mod tests {
    use super::super::Context;
    use super::*;

    fn contexts(names: &[&str], current: Option<&str>) -> Contexts {
        let context = |name: &&str| {
            ((*name).to_owned(), Context { control: Some((*name).to_owned()), ..Context::default() })
        };
        Contexts {
            current_context: current.map(str::to_owned),
            contexts: names.iter().map(context).collect(),
        }
    }

    fn names(contexts: &Contexts) -> String {
        let names: Vec<_> = contexts.contexts.keys().map(String::as_str).collect();
        format!("{} ({})", names.join(" "), contexts.current_context.as_deref().unwrap_or_default())
    }

    /// What becomes of two files by a change.
    fn changed(own: Contexts, dev: Contexts, change: impl FnOnce(&mut Contexts)) -> [String; 3] {
        let both = Both { own, dev };
        let mut all = both.merged();
        change(&mut all);
        let now = both.apart(all);
        [names(&now.own), names(&now.dev), names(&now.merged())]
    }

    #[test]
    fn each_context_stays_in_its_file_and_new_ones_are_the_users_own() {
        let dev = || contexts(&["dev"], Some("dev"));
        let add = |all: &mut Contexts| all.contexts.extend(contexts(&["prod"], None).contexts);
        let none = Contexts::default;
        assert_eq!(changed(none(), dev(), |_| ()), [" ()", "dev (dev)", "dev (dev)"]);
        assert_eq!(changed(none(), dev(), add), ["prod ()", "dev (dev)", "dev prod (dev)"]);
        let prod = || contexts(&["prod"], None);
        let choose =
            |name: &'static str| move |all: &mut Contexts| all.current_context = Some(name.to_owned());
        assert_eq!(changed(prod(), dev(), choose("prod")), ["prod (prod)", "dev (dev)", "dev prod (prod)"]);
        let both = contexts(&["prod"], Some("prod"));
        assert_eq!(changed(both, dev(), choose("dev")), ["prod (dev)", "dev (dev)", "dev prod (dev)"]);
        assert_eq!(
            changed(none(), contexts(&["dev"], None), choose("dev")),
            [" ()", "dev (dev)", "dev (dev)"]
        );
        let remove = |all: &mut Contexts| {
            all.contexts.remove("dev");
            all.current_context = None;
        };
        assert_eq!(changed(prod(), dev(), remove), ["prod ()", " ()", "prod ()"]);
    }

    #[test]
    fn of_two_of_the_same_name_the_users_own_is_meant() {
        let (mut own, dev) = (contexts(&["dev"], None), contexts(&["dev"], Some("dev")));
        own.contexts.entry("dev".to_owned()).and_modify(|context| context.control = Some("own".to_owned()));
        let both = Both { own, dev };
        assert!(!both.is_beneath("dev"));
        assert_eq!(both.merged().contexts["dev"].control.as_deref(), Some("own"));
        let now = both.apart(both.merged());
        assert_eq!((now.own, now.dev), (both.own, both.dev));
    }
}
