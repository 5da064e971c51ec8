//! `AudioDecode`: from a file, or the bytes of one, to samples.

use super::audio;
use remotemedia_runtime::registry::About;
use remotemedia_runtime::{
    Audio, Buffer, Code, Context, Error, Instance, Node, NodeType, Result, Value,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use std::fs::File;
use std::io::{Cursor, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::AudioDecoder;
use symphonia::core::errors::Error as Failure;
use symphonia::core::formats::{FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::default::{get_codecs, get_probe};

const FORMATS: &str = "WAV, FLAC, MP3 and Ogg Vorbis are known, Opus and AAC are not; convert \
                       other formats first, for example with: ffmpeg -i INPUT OUTPUT.flac";

#[derive(Clone, Deserialize, JsonSchema)]
struct Params {
    /// The longest recording to decode, in seconds. A small file can hold hours of silence.
    #[serde(default = "default_max_seconds")]
    #[schemars(range(min = 1, max = 360_000))]
    max_seconds: u32,
    /// The most memory that the samples may take, in megabytes; a sample of float32 has 4 bytes.
    #[serde(default = "default_max_megabytes")]
    #[schemars(range(min = 1, max = 1_000_000))]
    max_megabytes: u32,
}

fn default_max_seconds() -> u32 {
    36_000
}

fn default_max_megabytes() -> u32 {
    4096
}

/// `AudioDecode`: decodes WAV (PCM of 8 to 32 bits, float, A-law, mu-law), FLAC, MP3 and Ogg
/// (Vorbis, FLAC).
///
/// Padding that an MP3 or Vorbis encoder added is cut away where the file says how much it is, so
/// the length is that of the original. Packets that cannot be decoded are left out, with a warning
/// in the log; a file that ends early gives what is there.
///
/// # Errors
/// `RM_E_IO` if a file cannot be opened or read; `RM_E_NODE` for empty data, an unknown format or
/// codec, and data of which nothing can be decoded; `RM_E_LIMIT` beyond `max_seconds` or
/// `max_megabytes`.
pub fn audio_decode() -> NodeType {
    let about = About {
        name: "AudioDecode",
        summary: "Decodes WAV, FLAC, MP3 and Ogg Vorbis.",
        takes: "the path of a file as text, or the content of a file as bytes",
        gives: "float32 audio at the rate and with the channels of the recording",
        heavy: true,
        example: json!({"params": {"max_seconds": 3600}}),
    };
    NodeType::new::<Params>(about, |params| Instance::new(Decode(params.clone())))
}

struct Decode(Params);

impl Node for Decode {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let (name, source): (String, Box<dyn MediaSource>) = match value {
            Value::Text(path) => (path.to_string(), Box::new(open(&path)?)),
            Value::Bytes(bytes) => {
                let name = format!("the {} bytes", bytes.bytes().len());
                (name, Box::new(Cursor::new(Shared(bytes))))
            }
            other => {
                return Err(Error::node(format!("takes a path or bytes, got {}", other.kind()))
                    .hint("give the path of a file as text, or the content of a file as bytes"));
            }
        };
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(&name, source, &self.0, cx)))
            .unwrap_or_else(|_| {
                Err(Error::node(format!("{name}: the decoder failed on this data"))
                    .hint("the file is probably damaged"))
            });
        cx.emit(decoded?);
        Ok(())
    }
}

/// The bytes of a value as a source that can be read from anywhere.
struct Shared(Arc<Buffer>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

/// Opens a regular file; a pipe or a device could keep a read waiting for ever.
fn open(path: &str) -> Result<File> {
    let failed = |e: std::io::Error| {
        let error = Error::new(Code::Io, format!("{path}: {e}"));
        match e.kind() {
            ErrorKind::NotFound => error.hint("relative paths start at the working directory"),
            _ => error,
        }
    };
    let kind = std::fs::metadata(path).map_err(failed)?.file_type();
    if !kind.is_file() {
        let what = if kind.is_dir() { "a folder" } else { "not a regular file" };
        return Err(Error::new(Code::Io, format!("{path}: this is {what}"))
            .hint("give the path of one file per item"));
    }
    File::open(path).map_err(failed)
}

/// What a failure of symphonia means for the whole file.
fn failed(name: &str, failure: &Failure) -> Error {
    match failure {
        Failure::IoError(e) if e.kind() != ErrorKind::UnexpectedEof => {
            Error::new(Code::Io, format!("{name}: {e}"))
        }
        Failure::IoError(_) => Error::node(format!("{name}: the data ends before any sound"))
            .hint("the file is cut off, or not audio"),
        Failure::Unsupported(why) => {
            Error::node(format!("{name}: not a known format: {why}")).hint(FORMATS)
        }
        other => Error::node(format!("{name}: {other}")).hint("the file is damaged"),
    }
}

fn decode(
    name: &str,
    source: Box<dyn MediaSource>,
    params: &Params,
    cx: &Context,
) -> Result<Value> {
    let bytes = source.byte_len().unwrap_or(0);
    if bytes == 0 {
        return Err(Error::node(format!("{name}: there is nothing in it"))
            .hint("the file is empty; was it written to the end?"));
    }
    let stream = MediaSourceStream::new(source, Default::default());
    let mut reader = get_probe()
        .probe(&Default::default(), stream, Default::default(), Default::default())
        .map_err(|e| failed(name, &e))?;
    let mut track = Track::of(name, &*reader)?;
    let (rate, channels) = (track.rate, track.channels);
    let Params { max_seconds, max_megabytes } = *params;
    let most = u64::from(max_seconds).saturating_mul(u64::from(rate)) as usize;
    let most_samples = (u64::from(max_megabytes) * 1_000_000 / size_of::<f32>() as u64) as usize;

    // What the header promises is worth as much memory as the file can hold, and no more. It is
    // only a wish: what is needed is reserved as it comes.
    let (promised, plausible) = (track.frames, bytes.saturating_mul(32));
    let wish = promised.min(most as u64).saturating_mul(channels as u64).min(plausible);
    let wish = wish.min(most_samples as u64);
    let mut samples: Vec<f32> = Vec::new();
    let _ = samples.try_reserve_exact(usize::try_from(wish).unwrap_or(0));
    let (mut damaged, mut last) = (0_u64, None);
    // When the next packet should begin, and how many frames lie between packets, lost.
    let (mut due, mut gaps) = (None::<i64>, 0_u64);
    loop {
        cx.check()?;
        let packet = match reader.next_packet() {
            Ok(Some(packet)) => packet,
            Ok(None) => break,
            Err(Failure::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => break,
            // The next of several recordings, one after the other in one Ogg file.
            Err(Failure::ResetRequired) => {
                track = Track::of(name, &*reader)?;
                due = None;
                continue;
            }
            Err(e @ Failure::IoError(_)) => return Err(failed(name, &e)),
            // What follows cannot be found any more.
            Err(e) => {
                damaged += 1;
                last = Some(e);
                break;
            }
        };
        if packet.track_id != track.id {
            continue;
        }
        // Time before zero is the encoder's, and is cut away.
        let begin = packet.pts.get().max(0);
        gaps = gaps.saturating_add(begin.saturating_sub(due.unwrap_or(begin)).max(0) as u64);
        let length = i64::try_from(packet.dur.get()).unwrap_or(0);
        due = Some(packet.pts.get().saturating_add(length).max(0));
        let buffer = match track.decoder.decode(&packet) {
            Ok(buffer) => buffer,
            Err(e) => {
                damaged += 1;
                last = Some(e);
                continue;
            }
        };
        let spec = buffer.spec();
        if buffer.frames() > 0 && (spec.rate() != rate || spec.channels().count() != channels) {
            return Err(Error::node(format!(
                "{name}: changes from {rate} Hz, {channels} channels to {} Hz, {} channels",
                spec.rate(),
                spec.channels().count()
            ))
            .hint("split the file where the recording changes"));
        }
        let (at, more) = (samples.len(), buffer.frames() * channels);
        if at / channels + buffer.frames() > most {
            return Err(Error::new(
                Code::Limit,
                format!("{name}: longer than {max_seconds} seconds"),
            )
            .hint("raise max_seconds, or split the file"));
        }
        if at + more > most_samples {
            let message = format!("{name}: its samples take more than {max_megabytes} MB");
            return Err(
                Error::new(Code::Limit, message).hint("raise max_megabytes, or split the file")
            );
        }
        samples.try_reserve(more).map_err(|_| {
            Error::new(Code::Limit, format!("{name}: there is no memory for more samples"))
                .hint("split the file")
        })?;
        samples.resize(at + more, 0.0);
        buffer.copy_to_slice_interleaved(&mut samples[at..]);
    }
    let frames = samples.len() / channels;
    if let (0, Some(failure)) = (frames, &last) {
        return Err(failed(name, failure));
    }
    // A header that promises nothing, and little or nothing behind it, is a recording of no length.
    if frames == 0 && (promised > 0 || bytes > 65_536) {
        let why = format!("{name}: its header promises {promised} frames, none are there");
        return Err(Error::node(why).hint(
            "was it written to the end? If so, repair the header, for example with: \
             ffmpeg -ignore_length 1 -i INPUT OUTPUT",
        ));
    }
    let missing = match promised {
        0 => gaps,
        // A header written before the length was known promises more than any file could hold.
        _ if promised > plausible => 0,
        _ => promised.saturating_sub(frames as u64),
    };
    if damaged > 0 || missing > 0 {
        let why = last.map(|failure| format!(": {failure}")).unwrap_or_default();
        log::warn!(
            "AudioDecode: {name}: {damaged} damaged packets left out, {missing} frames \
             missing{why}"
        );
    }
    samples.shrink_to_fit();
    audio(samples, (channels > 1).then_some(channels), rate, Some(0))
}

/// The track that is decoded.
struct Track {
    id: u32,
    rate: u32,
    channels: usize,
    /// How many frames it has by its header; 0 if that does not say.
    frames: u64,
    decoder: Box<dyn AudioDecoder>,
}

impl Track {
    fn of(name: &str, reader: &dyn FormatReader) -> Result<Track> {
        let unusable = |why: &str| Error::node(format!("{name}: {why}"));
        let track = reader
            .default_track(TrackType::Audio)
            .ok_or_else(|| unusable("there is no sound in it").hint(FORMATS))?;
        let Some(CodecParameters::Audio(params)) = &track.codec_params else {
            return Err(unusable("there is no sound in it").hint(FORMATS));
        };
        let decoder = get_codecs().make_audio_decoder(params, &Default::default());
        let decoder = decoder.map_err(|e| match e {
            Failure::Unsupported(_) => unusable("its codec is not a known one").hint(FORMATS),
            other => failed(name, &other),
        })?;
        let known = decoder.codec_params();
        let rate = known.sample_rate.or(params.sample_rate).unwrap_or(0);
        let channels =
            known.channels.as_ref().or(params.channels.as_ref()).map_or(0, |c| c.count());
        if !(1..=Audio::MAX_SAMPLE_RATE).contains(&rate)
            || !(1..=Audio::MAX_CHANNELS).contains(&channels)
        {
            return Err(unusable(&format!("{rate} Hz with {channels} channels is not possible"))
                .hint("the file is damaged"));
        }
        let frames = track.num_frames.unwrap_or(0);
        Ok(Track { id: track.id, rate, channels, frames, decoder })
    }
}
