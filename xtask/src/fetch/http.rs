//! The official tarball. An interrupted download is continued where it stopped, in this run or the next one.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ureq::Agent;
use ureq::http::{StatusCode, header};

use crate::pins::Pin;
use crate::progress::Phase;

/// Short, so that a machine without a network soon tries the next origin.
const CONNECT: Duration = Duration::from_secs(5);
const STALL: Duration = Duration::from_secs(30);

pub fn fetch(cached: &Path, pin: &Pin) -> Result<()> {
    let url = pin.url.as_deref().context("it is not the pinned file")?;
    let part = super::partial(cached);
    let agent: Agent = Agent::config_builder()
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(STALL))
        .timeout_per_read(Some(STALL))
        .http_status_as_error(false)
        .build()
        .into();
    let phase = Phase::transfer(format!("download {}", pin.tarball()), pin.size);
    let result = download(&agent, &part, url, pin.size, &phase);
    phase.end(result.and_then(|()| super::admit(&part, cached, pin, url)))
}

fn download(agent: &Agent, part: &Path, url: &str, size: u64, phase: &Phase) -> Result<()> {
    let mut have = length(part)?;
    while have < size {
        let stopped = request(agent, part, have, url, size, phase);
        let reached = length(part)?;
        match stopped {
            Ok(()) => ensure!(reached > have, "{url} sent nothing"),
            // The received bytes are kept. As long as each request brings more bytes, the rest is requested again.
            Err(error) if reached <= have => return Err(error),
            Err(_) => {}
        }
        have = reached;
    }
    Ok(())
}

fn request(
    agent: &Agent,
    part: &Path,
    have: u64,
    url: &str,
    size: u64,
    phase: &Phase,
) -> Result<()> {
    let mut request = agent.get(url);
    if have > 0 {
        request = request.header(header::RANGE, format!("bytes={have}-"));
    }
    let mut response = request.call().with_context(|| url.to_owned())?;
    let mut options = OpenOptions::new();
    let mut position = have;
    match response.status() {
        StatusCode::PARTIAL_CONTENT => options.append(true),
        // The server does not resume: it sends the whole file again.
        StatusCode::OK => {
            position = 0;
            options.write(true).truncate(true)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            fs::remove_file(part).with_context(|| format!("cannot remove {}", part.display()))?;
            bail!(
                "{url} is shorter than the {have} bytes downloaded so far; these have been removed"
            );
        }
        status => bail!("{url} answers {status}"),
    };
    let mut file = options
        .create(true)
        .open(part)
        .with_context(|| format!("cannot write {}", part.display()))?;
    let mut body = response.body_mut().with_config().limit(size + 1).reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = body.read(&mut buffer).with_context(|| url.to_owned())?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])
            .with_context(|| format!("cannot write {}", part.display()))?;
        position += count as u64;
        phase.reach(position);
    }
}

fn length(part: &Path) -> Result<u64> {
    match fs::metadata(part) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", part.display())),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::path::PathBuf;
    use std::thread;

    use super::*;
    use crate::digest::Inputs;
    use crate::pins::DebianSource;

    /// Serves `content` once for each of `sizes`, closes the connection each time after so many bytes, and returns the
    /// requested ranges.
    fn serve(
        content: &'static [u8],
        sizes: &'static [usize],
    ) -> (String, thread::JoinHandle<Vec<Option<usize>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/Python.tar.xz", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            sizes
                .iter()
                .map(|&size| {
                    let (stream, _) = listener.accept().unwrap();
                    let mut range = None;
                    for line in BufReader::new(&stream)
                        .lines()
                        .map_while(Result::ok)
                        .take_while(|l| !l.is_empty())
                    {
                        if let Some(from) = line.to_lowercase().strip_prefix("range: bytes=") {
                            range = Some(from.trim_end_matches('-').parse::<usize>().unwrap());
                        }
                    }
                    let from = range.unwrap_or(0);
                    let rest = &content[from..];
                    let status = if range.is_some() {
                        "206 Partial Content"
                    } else {
                        "200 OK"
                    };
                    write!(
                        &stream,
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n",
                        rest.len()
                    )
                    .unwrap();
                    (&stream).write_all(&rest[..size.min(rest.len())]).unwrap();
                    range
                })
                .collect()
        });
        (url, server)
    }

    fn pin(url: String, content: &[u8]) -> Pin {
        let mut digest = Inputs::new();
        digest.write_all(content).unwrap();
        Pin {
            name: "Python".into(),
            version: "3.13.5".into(),
            sha256: digest.finish(),
            size: content.len() as u64,
            url: Some(url),
            suffix: "tar.xz".into(),
            debian: DebianSource {
                package: "python3.13".into(),
                version: None,
                suites: vec![],
            },
        }
    }

    fn cached(dir: &tempfile::TempDir) -> PathBuf {
        dir.path().join("Python-3.13.5.tar.xz")
    }

    #[test]
    fn a_broken_connection_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let (url, server) = serve(b"0123456789", &[4, 3, 10]);
        fetch(&cached(&dir), &pin(url, b"0123456789")).unwrap();
        assert_eq!(fs::read(cached(&dir)).unwrap(), b"0123456789");
        assert_eq!(server.join().unwrap(), [None, Some(4), Some(7)]);
    }

    #[test]
    fn an_earlier_run_is_continued() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(super::super::partial(&cached(&dir)), "01234").unwrap();
        let (url, server) = serve(b"0123456789", &[10]);
        fetch(&cached(&dir), &pin(url, b"0123456789")).unwrap();
        assert_eq!(fs::read(cached(&dir)).unwrap(), b"0123456789");
        assert_eq!(server.join().unwrap(), [Some(5)]);
    }

    #[test]
    fn another_file_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (url, _server) = serve(b"9876543210", &[10]);
        let error = fetch(&cached(&dir), &pin(url.clone(), b"0123456789"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(&url), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn nobody_listening_is_an_error_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        fetch(
            &cached(&dir),
            &pin(format!("http://127.0.0.1:{port}/"), b"0"),
        )
        .unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
