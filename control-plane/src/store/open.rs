//! Opens the database of a control plane that starts: what cannot be used is said at once, in one sentence, and PostgreSQL that is
//! not there yet is waited for.
//!
//! A single connection comes first, since a pool tries again for a while, whatever the reason, and then knows none.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use percent_encoding::percent_decode_str;
use sqlx::any::install_default_drivers;
use sqlx::{AnyConnection, Connection as _, Executor as _};

use super::{Store, StoreError, prepare_sqlite};

/// The time for one attempt to connect.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The pause between attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// The same reason is said again after so long.
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// Primary result codes of SQLite.
const CORRUPT: i32 = 11;
const NOT_A_DATABASE: i32 = 26;
/// No permission, read-only, an error of the disk, full, not to be opened, no authorization.
const UNUSABLE: [i32; 6] = [3, 8, 10, 13, 14, 23];
/// What PostgreSQL says while it starts, stops, or has too many connections.
const COMES_LATER: [&str; 4] = ["57P03", "57P01", "57P02", TOO_MANY_CONNECTIONS];
/// The last of these.
pub(super) const TOO_MANY_CONNECTIONS: &str = "53300";

/// The reason that a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL is of no database that the store knows.
    #[error("--database-url must begin with `sqlite:` or `postgres://`")]
    UnknownDatabase,
    /// A password that is not encoded: where the host begins cannot be known.
    #[error(
        "--database-url has an @, / or # in its user name or password; percent-encode them there (@ is %40, / is %2F, # is %23)"
    )]
    NotEncoded,
    /// The file holds something else.
    #[error(
        "the database {} is damaged, or is no database of SQLite ({reason}); restore a copy of it, or start with another --data-dir",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The file cannot be read or written.
    #[error(
        "the database {} cannot be used ({reason}); check that this user may write to it and to its folder, and that the disk is not full",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// The server does not want us.
    #[error("PostgreSQL at {server} refuses the connection ({reason}); correct --database-url")]
    Refused {
        /// Host and port.
        server: String,
        /// What it says.
        reason: String,
    },
    /// The user may not do what it must.
    #[error(
        "PostgreSQL at {server} does not let this user make tables ({reason}); grant it CREATE on the schema, or name another \
         database or schema in --database-url"
    )]
    NotAllowed {
        /// Host and port.
        server: String,
        /// What it says.
        reason: String,
    },
    /// Something else has tables of these names.
    #[error(
        "the database at {server} holds tables of another program ({reason}); name another database or schema in \
         --database-url"
    )]
    Foreign {
        /// Host and port.
        server: String,
        /// What it says.
        reason: String,
    },
    /// Any other failure.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens a database (`sqlite:…` or `postgres://…`) when it is there, and brings its tables up to date.
pub async fn open(url: &str) -> Result<Store, DatabaseError> {
    install_default_drivers();
    if let Some(path) = sqlite_path(url) {
        let explain = |error| explain_sqlite(path.clone(), error);
        let mut connection = AnyConnection::connect(url).await.map_err(|error| explain(error.into()))?;
        prepare_sqlite(&mut connection).await.map_err(|error| explain(error.into()))?;
        // The first read is what needs the file of shared memory.
        let read = connection.execute("select count(*) from sqlite_schema").await;
        read.map_err(|error| explain(error.into()))?;
        connection.close().await.map_err(|error| explain(error.into()))?;
        return Store::open(url).await.map_err(explain);
    }
    if url.starts_with("postgres:") || url.starts_with("postgresql:") {
        check_encoded(url)?;
        wait_for_postgres(url).await?;
        return Store::open(url).await.map_err(|error| explain_postgres(url, error));
    } else if !url.starts_with("sqlite:") {
        return Err(DatabaseError::UnknownDatabase);
    }
    Ok(Store::open(url).await?)
}

/// The file of an SQLite database. `None`: it is in memory, or is no such database.
pub fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let path = rest.strip_prefix("//").unwrap_or(rest).split('?').next().unwrap_or_default();
    let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
    (!path.is_empty() && path != ":memory:").then(|| path.into())
}

fn explain_sqlite(path: PathBuf, error: StoreError) -> DatabaseError {
    let StoreError::Database(cause) = &error else { return error.into() };
    let Some(database) = cause.as_database_error() else { return error.into() };
    let reason = database.message().to_owned();
    match primary_code(database) {
        Some(CORRUPT | NOT_A_DATABASE) => DatabaseError::Damaged { path, reason },
        _ if is_unusable(database) => DatabaseError::Unusable { path, reason },
        _ => error.into(),
    }
}

fn explain_postgres(url: &str, error: StoreError) -> DatabaseError {
    let StoreError::Database(sqlx::Error::Database(cause)) = &error else { return error.into() };
    let (server, reason) = (server(url), cause.message().to_owned());
    match cause.code().as_deref() {
        Some("42501") => DatabaseError::NotAllowed { server, reason },
        // A table or a column that there should not be, or should be.
        Some("42P07" | "42703" | "42P01") => DatabaseError::Foreign { server, reason },
        _ => error.into(),
    }
}

/// Whether it is the file or its disk that fails, and not what was asked: the disk is full, for one.
pub fn is_unusable(error: &dyn sqlx::error::DatabaseError) -> bool {
    primary_code(error).is_some_and(|code| UNUSABLE.contains(&code))
        // PostgreSQL: its disk is full, it fails to read or write, it takes no writes.
        || error.code().is_some_and(|code| ["53100", "58030", "25006"].contains(&&*code))
}

/// The result code of SQLite, without the higher bytes, which say more than is needed.
fn primary_code(error: &dyn sqlx::error::DatabaseError) -> Option<i32> {
    let code = error.code().filter(|code| code.len() < 5)?;
    code.parse::<i32>().ok().map(|code| code & 0xff)
}

/// Refuses a URL whose host may be a part of its password, which is not to be looked up or logged.
fn check_encoded(url: &str) -> Result<(), DatabaseError> {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split('?').next().unwrap_or_default();
    let before_host = rest.rsplit_once('@').map_or("", |(before, _)| before);
    if before_host.contains(['@', '/', '#']) { Err(DatabaseError::NotEncoded) } else { Ok(()) }
}

async fn wait_for_postgres(url: &str) -> Result<(), DatabaseError> {
    let server = server(url);
    let mut said: Option<(String, Instant)> = None;
    loop {
        let reason = match tokio::time::timeout(ATTEMPT, AnyConnection::connect(url)).await {
            Ok(Ok(connection)) => return Ok(connection.close().await.map_err(StoreError::from)?),
            Ok(Err(error)) if comes_later(&error) => reason(&error),
            Ok(Err(error)) => return Err(DatabaseError::Refused { server, reason: reason(&error) }),
            Err(_) => format!("no response within {} s", ATTEMPT.as_secs()),
        };
        if said.as_ref().is_none_or(|(last, at)| *last != reason || at.elapsed() >= SAY_AGAIN) {
            tracing::warn!("waiting for PostgreSQL at {server}: {reason}");
            said = Some((reason, Instant::now()));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a server that gives this error may be there later.
pub(super) fn comes_later(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(error, sqlx::Error::Io(_)) || code.is_some_and(|code| COMES_LATER.contains(&&*code))
}

pub(super) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Protocol(said) if said.contains("SSLRequest") => {
            "what answers there is no PostgreSQL".to_owned()
        }
        sqlx::Error::Database(error) => error.message().to_owned(),
        error => error.to_string(),
    }
}

/// Host and port of a URL, without what is secret in it.
pub(super) fn server(url: &str) -> String {
    let Ok(url) = url::Url::parse(url) else { return "the URL".to_owned() };
    let asked = url.query_pairs().find(|(name, _)| name == "host").map(|(_, host)| host.into_owned());
    let host = asked.or_else(|| url.host_str().map(str::to_owned)).filter(|host| !host.is_empty());
    format!("{}:{}", host.unwrap_or_else(|| "localhost".to_owned()), url.port().unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_database() {
        for (url, path) in [
            ("sqlite:///data/registry.db?mode=rwc", Some("/data/registry.db")),
            ("sqlite:registry.db", Some("registry.db")),
            ("sqlite://a%20b.db", Some("a b.db")),
            ("sqlite::memory:", None),
            ("sqlite:", None),
            ("postgres://host/registry", None),
        ] {
            assert_eq!(sqlite_path(url), path.map(PathBuf::from), "{url}");
        }
    }

    #[test]
    fn a_server_is_named_without_its_password() {
        for (url, named) in [
            ("postgres://trunkline:s3cret@db.example/registry", "db.example:5432"),
            ("postgresql://db:6000/registry", "db:6000"),
            ("postgres://trunkline@localhost/registry?host=/run/postgresql", "/run/postgresql:5432"),
            ("postgres:///registry", "localhost:5432"),
        ] {
            assert_eq!(server(url), named, "{url}");
        }
    }

    #[tokio::test]
    async fn a_password_that_is_not_encoded_is_refused_and_not_told() {
        for url in
            ["postgres://tl:S3C@RET/x@127.0.0.1:1/db", "postgres://tl:a/b@h/db", "postgres://tl:a#b@h/db"]
        {
            assert!(matches!(open(url).await, Err(DatabaseError::NotEncoded)), "{url}");
        }
        for url in ["postgres://tl:S3C%40RET@h/db", "postgres://h/db?host=/run/@/x", "postgresql:///db"] {
            assert!(check_encoded(url).is_ok(), "{url}");
        }
    }

    #[tokio::test]
    async fn a_database_of_another_kind_is_refused() {
        let error = open("mysql://host/registry").await.unwrap_err();
        assert_eq!(error.to_string(), "--database-url must begin with `sqlite:` or `postgres://`");
    }

    #[tokio::test]
    async fn a_file_that_holds_something_else_is_named_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.db");
        std::fs::write(&path, "no database\n".repeat(1_000)).unwrap();
        let error = open(&format!("sqlite://{}?mode=rwc", path.display())).await.unwrap_err();
        assert!(matches!(&error, DatabaseError::Damaged { path: named, .. } if *named == path), "{error}");
        let error = open(&format!("sqlite://{}/none/registry.db?mode=rwc", folder.path().display())).await;
        assert!(matches!(error, Err(DatabaseError::Unusable { .. })), "{error:?}");
    }
}
