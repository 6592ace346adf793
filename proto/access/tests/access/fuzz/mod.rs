//! The checks of the fuzz targets in `fuzz/`, each tried here on noise and on what is nearly right.

mod conditions;

use proptest::prelude::*;

proptest! {
    #[test]
    fn conditions(text in prop_oneof![
        "\\PC{0,80}",
        "(Mon|sun|daily)[,-]?(Tue)? [0-9]{1,2}:[0-9]{2}-[0-9]{1,2}:[0-9]{2} (UTC|Europe/Berlin|Etc/GMT[+-][0-9]{1,2})",
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,3})?|[0-9a-f:]{2,20}(/[0-9]{1,3})?",
        "[0-9]{1,20}/(s|min|hour|day|month)( per (server|tool))?",
        "(tools|resources|prompts|\\*)/(call|list|\\*|templates/list)",
    ]) {
        conditions::check(&text);
    }
}
