//! Requests to one repository of one registry: TLS, authorization, redirects, timeouts, and what failures mean.
//!
//! It must not send credentials anywhere but to the registry and to the token server that it names, nor read more than
//! the caller allows.

use super::credentials::{self, Credentials};
use super::{TRIES, cause, one_line, pause};
use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_auth::{ChallengeRef, parser::ChallengeParser};
use oci_client::Reference;
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE,
};
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE,
};
use reqwest::{Certificate, Response, StatusCode, Url, redirect};
use serde_json::Value;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where engines have a registry's authorities: `DIR/HOST[:PORT]/NAME.crt`.
const CERTIFICATES: &[&str] = &["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// The most bytes of a token server's answer, and of an error's text.
const MAX_TOKEN: u64 = 1 << 20;
const MAX_ERROR: u64 = 64 << 10;

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// By plain HTTP. A registry on this machine needs no such word if it speaks nothing else.
    pub plain_http: bool,
    /// A PEM file of one more authority, beside the system's.
    pub authority: Option<PathBuf>,
    /// How long it may send nothing.
    pub timeout: Duration,
}

/// Why a request has failed.
pub enum Failure {
    /// It may succeed when it is tried again.
    Retry(Error),
    /// It would fail again.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(error) | Failure::Final(error) => error,
        }
    }
}

/// A repository of a registry.
pub struct Client {
    http: reqwest::Client,
    /// As users know it, and as credentials are kept: `docker.io`, `HOST[:PORT]`.
    registry: String,
    /// The same by the name that answers.
    host: String,
    repository: String,
    plain_http: bool,
    timeout: Duration,
    /// `http` or `https`, once it has answered.
    scheme: Option<&'static str>,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// Makes no connection yet.
    ///
    /// # Errors
    /// If a certificate cannot be read.
    pub fn new(reference: &Reference, access: &Access) -> Result<Self> {
        let registry = reference.registry().to_owned();
        let host = if registry == "docker.io" { "registry-1.docker.io".into() } else { registry.clone() };
        Ok(Self {
            http: connect(&registry, access)?,
            registry,
            host,
            repository: reference.repository().into(),
            plain_http: access.plain_http,
            timeout: access.timeout,
            scheme: None,
            authorization: None,
        })
    }

    /// The manifest or index of a tag or digest, of at most `most` bytes.
    ///
    /// # Errors
    /// If there is none, or it is larger, or the registry does not give it out.
    pub async fn manifest(&mut self, name: &str, most: u64) -> Result<Vec<u8>> {
        let mut tries = 0;
        loop {
            match self.whole_manifest(name, most).await {
                Ok(manifest) => return Ok(manifest),
                Err(Failure::Retry(_)) if tries + 1 < TRIES => tries += 1,
                Err(failure) => return Err(failure.into()),
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    async fn whole_manifest(&mut self, name: &str, most: u64) -> Result<Vec<u8>, Failure> {
        let kinds = [
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            OCI_IMAGE_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
        ];
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header(&kinds.join(", "))?);
        let mut response = self.get(&format!("manifests/{name}"), headers).await?;
        self.body(&mut response, most, "manifest").await
    }

    /// Begins to download a blob, from `offset` on if the registry can; [`continues`] says so.
    ///
    /// # Errors
    /// If there is none, or the registry does not give it out.
    pub async fn blob(&mut self, digest: &str, offset: u64) -> Result<Response, Failure> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            headers.insert(RANGE, header(&format!("bytes={offset}-"))?);
        }
        self.get(&format!("blobs/{digest}"), headers).await
    }

    /// The next bytes of a response, or nothing at its end.
    ///
    /// # Errors
    /// If the connection is lost.
    pub async fn chunk(&self, response: &mut Response) -> Result<Option<impl AsRef<[u8]> + use<>>, Failure> {
        response.chunk().await.map_err(|error| self.lost(&error))
    }

    /// What it means that a response was shorter than it should be.
    pub fn ended_early(&self) -> Failure {
        Failure::Retry(anyhow!("{} ends the connection too early", self.registry))
    }

    /// GETs something of the repository. Asked for authorization, it gets one and tries once more.
    async fn get(&mut self, path: &str, headers: HeaderMap) -> Result<Response, Failure> {
        let scheme = self.scheme().await?;
        let url = format!("{scheme}://{}/v2/{}/{path}", self.host, self.repository);
        let mut is_authorized = false;
        loop {
            let mut headers = headers.clone();
            if let Some(authorization) = &self.authorization {
                headers.insert(AUTHORIZATION, authorization.clone());
            }
            let response = self.http.get(&url).headers(headers).send().await.map_err(|error| self.lost(&error))?;
            match response.status() {
                StatusCode::UNAUTHORIZED if !is_authorized => self.authorize(&response).await?,
                status if status.is_success() => return Ok(response),
                // A part that is no part of the blob: download all of it.
                StatusCode::RANGE_NOT_SATISFIABLE => return Box::pin(self.get(path, HeaderMap::new())).await,
                _ => return Err(self.refused(response).await),
            }
            is_authorized = true;
        }
    }

    /// How the registry is spoken to. One on this machine may speak plain HTTP: it is asked by HTTPS first.
    async fn scheme(&mut self) -> Result<&'static str, Failure> {
        if let Some(scheme) = self.scheme {
            return Ok(scheme);
        }
        let schemes: &[_] = match (self.plain_http, is_loopback(&self.host)) {
            (true, _) => &["http"],
            (false, true) => &["https", "http"],
            (false, false) => &["https"],
        };
        let mut failure = None;
        for scheme in schemes {
            match self.http.get(format!("{scheme}://{}/v2/", self.host)).send().await {
                Ok(_) => return Ok(self.scheme.insert(scheme)),
                // A server with a certificate, even a wrong one, speaks HTTPS.
                Err(error) if is_about_certificates(&error) => return Err(self.lost(&error)),
                Err(error) => failure = failure.or(Some(self.lost(&error))),
            }
        }
        Err(failure.unwrap_or_else(|| self.ended_early()))
    }

    /// Gets an authorization of the kind that a response with the status 401 asks for.
    async fn authorize(&mut self, response: &Response) -> Result<(), Failure> {
        let credentials = credentials::find(&self.registry, &self.repository)?;
        if let Some(Credentials::RegistryToken(token)) = &credentials {
            self.authorization = Some(secret("Bearer", token)?);
            return Ok(());
        }
        let headers: Vec<&str> =
            response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).collect();
        let challenges: Vec<ChallengeRef<'_>> =
            headers.iter().flat_map(|header| ChallengeParser::new(header)).filter_map(Result::ok).collect();
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme.eq_ignore_ascii_case(scheme));
        self.authorization = Some(match (find("Bearer"), find("Basic"), credentials) {
            (Some(challenge), _, credentials) => {
                let token = self.token(challenge, credentials.as_ref()).await?;
                secret("Bearer", &token)?
            }
            (None, Some(_), Some(Credentials::Password(name, password))) => {
                secret("Basic", &STANDARD.encode(format!("{name}:{password}")))?
            }
            (None, Some(_), _) => return Err(Failure::Final(self.no_credentials())),
            _ => {
                let asked = one_line(headers.first().unwrap_or(&"nothing"));
                let registry = &self.registry;
                return Err(
                    anyhow!("{registry} asks for an authorization that kontena-image cannot give: {asked}").into()
                );
            }
        });
        Ok(())
    }

    /// A token of the token server that a challenge names, by
    /// <https://distribution.github.io/distribution/spec/auth/token/>, and for identity tokens `oauth/`.
    async fn token(&self, challenge: &ChallengeRef<'_>, credentials: Option<&Credentials>) -> Result<String, Failure> {
        let parameter = |name: &str| {
            let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.to_unescaped())
        };
        let realm = one_line(&parameter("realm").unwrap_or_default());
        let mut url = Url::parse(&realm).with_context(|| format!("the token server's URL {realm:?} makes no sense"))?;
        if credentials.is_some() && self.scheme == Some("https") && url.scheme() != "https" {
            return Err(
                anyhow!("{} wants its credentials sent to {realm}, which is not encrypted", self.registry).into()
            );
        }
        let scope = format!("repository:{}:pull", self.repository);
        let service = parameter("service").unwrap_or_default();
        let request = if let Some(Credentials::IdentityToken(token)) = credentials {
            let fields = [
                ("grant_type", "refresh_token"),
                ("client_id", "kontena-image"),
                ("refresh_token", token),
                ("service", &service),
                ("scope", &scope),
            ];
            let mut form = url.clone();
            form.query_pairs_mut().clear().extend_pairs(fields);
            let body = form.query().unwrap_or_default().to_owned();
            self.http.post(url).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
        } else {
            url.query_pairs_mut().append_pair("service", &service).append_pair("scope", &scope);
            let request = self.http.get(url);
            match credentials {
                Some(Credentials::Password(name, password)) => request.basic_auth(name, Some(password)),
                _ => request,
            }
        };
        let mut response = request.send().await.map_err(|error| lost(&realm, self.timeout, &error))?;
        let status = response.status();
        if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::BAD_REQUEST].contains(&status) {
            return Err(Failure::Final(match credentials {
                Some(_) => anyhow!("the token server {realm} refuses the credentials: log in again"),
                None => self.no_credentials(),
            }));
        }
        if !status.is_success() {
            return Err(by_status(status, anyhow!("the token server {realm} answers {status}")));
        }
        let answer = self.body(&mut response, MAX_TOKEN, "token").await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        Ok(token.with_context(|| format!("the token server {realm} answers no token"))?.to_owned())
    }

    fn no_credentials(&self) -> Error {
        let (registry, repository) = (&self.registry, &self.repository);
        anyhow!("{registry} does not give {repository} out to everyone: log in, as by `docker login {registry}`")
    }

    /// The whole of a response.
    async fn body(&self, response: &mut Response, most: u64, what: &str) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        while let Some(bytes) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if (body.len() + bytes.len()) as u64 > most {
                return Err(anyhow!("{}'s {what} is larger than {most} bytes", self.registry).into());
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// What a response means that is neither a success nor a first demand for authorization.
    async fn refused(&self, mut response: Response) -> Failure {
        let (status, registry) = (response.status(), &self.registry);
        let is_token = |value: &HeaderValue| value.as_bytes().starts_with(b"Bearer");
        if status == StatusCode::UNAUTHORIZED {
            return Failure::Final(match &self.authorization {
                Some(authorization) if !is_token(authorization) => {
                    anyhow!("{registry} refuses the credentials: log in again")
                }
                _ => anyhow!("{registry} refuses the token that its token server gave for {}", self.repository),
            });
        }
        let body = self.body(&mut response, MAX_ERROR, "error").await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let error = &body["errors"][0];
        let said = error["message"].as_str().or(error["code"].as_str()).map_or_else(String::new, one_line);
        let said = if said.is_empty() { status.to_string() } else { format!("{status}, {said}") };
        by_status(status, anyhow!("{registry} says: {said}"))
    }

    fn lost(&self, error: &reqwest::Error) -> Failure {
        lost(&self.registry, self.timeout, error)
    }
}

/// Whether a response begins where a download of so many bytes has ended.
pub fn continues(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or_default();
    let is_part = response.status() == StatusCode::PARTIAL_CONTENT && range.starts_with(&format!("bytes {offset}-"));
    is_part || offset == 0
}

/// The client of HTTP, with the authorities of the system and of the registry.
fn connect(registry: &str, access: &Access) -> Result<reqwest::Client> {
    // It is there already after the first client.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authorities = authorities(registry, access)?;
    let builder = || {
        reqwest::Client::builder()
            .user_agent(concat!("kontena-image/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(access.timeout)
            .read_timeout(access.timeout)
            .redirect(redirect::Policy::custom(follow))
    };
    let with_system = builder().tls_certs_merge(authorities.iter().cloned()).build();
    // A machine without any authority can speak plain HTTP all the same.
    with_system.or_else(|_| builder().tls_certs_only(authorities).build()).context("cannot set TLS up")
}

/// The option's, and those where engines look for them.
fn authorities(registry: &str, access: &Access) -> Result<Vec<Certificate>> {
    let mut files: Vec<PathBuf> = access.authority.iter().cloned().collect();
    for directory in CERTIFICATES.iter().map(|directory| Path::new(directory).join(registry)) {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        files.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "crt")));
    }
    let mut authorities = Vec::new();
    for file in files {
        let pem = fs::read(&file).with_context(|| format!("cannot read the authority {}", file.display()))?;
        let found = Certificate::from_pem_bundle(&pem).with_context(|| format!("{} is not PEM", file.display()))?;
        ensure!(!found.is_empty(), "{} has no certificate in PEM", file.display());
        authorities.extend(found);
    }
    Ok(authorities)
}

/// Follows redirects, to another host without credentials, by reqwest's own care; but never out of encryption.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_encrypted = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
    if attempt.previous().len() > 10 {
        attempt.error("more than 10 redirects")
    } else if was_encrypted && attempt.url().scheme() != "https" {
        attempt.error("a redirect from HTTPS to HTTP")
    } else {
        attempt.follow()
    }
}

/// Whether connections to a host leave this machine: as docker has it, by its name alone.
fn is_loopback(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host);
    name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn is_about_certificates(error: &reqwest::Error) -> bool {
    cause(error).starts_with("invalid peer certificate")
}

/// What a connection that was lost, or never made, means.
fn lost(server: &str, timeout: Duration, error: &reqwest::Error) -> Failure {
    let cause = cause(error);
    if error.is_timeout() {
        return Failure::Retry(anyhow!("{server} sends nothing for {} seconds", timeout.as_secs()));
    }
    if is_about_certificates(error) {
        return Failure::Final(anyhow!(
            "{server} has no certificate that this machine trusts ({cause}): name its authority by --tls-ca, or put it \
             into {}/{server}/ca.crt",
            CERTIFICATES[0]
        ));
    }
    let error = error.is_redirect().then(|| anyhow!("{server} redirects wrongly: {cause}"));
    match error {
        Some(error) => Failure::Final(error),
        None => Failure::Retry(anyhow!("no connection to {server}: {cause}")),
    }
}

/// A failure that may pass if the server is overloaded or broken.
fn by_status(status: StatusCode, error: Error) -> Failure {
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if passes { Failure::Retry(error) } else { Failure::Final(error) }
}

fn header(value: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(value).with_context(|| format!("{value:?} is no header"))
}

/// An `Authorization`, which no debugging output shows.
fn secret(scheme: &str, value: &str) -> Result<HeaderValue> {
    let Ok(mut value) = HeaderValue::from_str(&format!("{scheme} {value}")) else {
        bail!("the credentials or the token have bytes that HTTP cannot carry");
    };
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn loopback_by_name() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "128.0.0.1", "example.org:127"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
