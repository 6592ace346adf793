//! TLS of the client port, and what callers may prove themselves by beside bearers: the flags.

use std::path::PathBuf;

use inbound::tls::{Certificate, ClientAuthorities, UnusableCertificate};
use serde_json::{Value, json};

/// What the client port speaks, and by what callers prove themselves.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsOptions {
    /// PEM file of the certificate chain of the client port; read anew when it changes and at SIGHUP. Default: no TLS.
    #[arg(long, env = "TRUNKLINE_EDGE_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of the private key of the certificate; read anew with it.
    #[arg(long, env = "TRUNKLINE_EDGE_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// PEM file of the authorities whose certificates clients may present instead of bearers; read anew with --tls-cert.
    /// Default: none are asked for.
    #[arg(long, env = "TRUNKLINE_EDGE_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub client_ca: Option<PathBuf>,
    /// Refuses connections without a client certificate.
    #[arg(long, env = "TRUNKLINE_EDGE_REQUIRE_CLIENT_CERTIFICATE", requires = "client_ca")]
    pub require_client_certificate: bool,
    /// Time for which browsers use nothing but https for this host, in seconds (`Strict-Transport-Security`); 0 says nothing.
    #[arg(long, env = "TRUNKLINE_EDGE_HSTS_MAX_AGE", value_name = "SECONDS", default_value_t = inbound::browser::YEAR)]
    pub hsts_max_age: u64,
    /// Accepts bearers as passwords of HTTP Basic, over TLS or from this machine.
    #[arg(long, env = "TRUNKLINE_EDGE_BASIC_AUTH")]
    pub basic_auth: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            require_client_certificate: false,
            hsts_max_age: inbound::browser::YEAR,
            basic_auth: false,
        }
    }
}

impl TlsOptions {
    /// Reads the certificate of the client port, if it has one.
    ///
    /// # Errors
    /// If a file cannot be used.
    pub fn certificate(&self) -> Result<Option<Certificate>, UnusableCertificate> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let is_required = self.require_client_certificate;
        let clients = self.client_ca.clone().map(|file| ClientAuthorities { file, is_required });
        Certificate::load(cert, key, clients).map(Some)
    }

    /// Renders the options as JSON.
    pub fn to_json(&self) -> Value {
        // Naming every field makes the compiler report a new one that is missing here.
        let Self { tls_cert, tls_key, client_ca, require_client_certificate, hsts_max_age, basic_auth } =
            self;
        json!({
            "tlsCert": tls_cert,
            "tlsKey": tls_key,
            "clientCa": client_ca,
            "requireClientCertificate": require_client_certificate,
            "hstsMaxAgeSeconds": hsts_max_age,
            "basicAuth": basic_auth,
        })
    }
}
