//! Attention over random sequences: the oracle's answer, and answers that must be equal. Checks panic with the seed.
use super::batch::{Seq, Shape, Step};
use super::device::{Device, from_bits, to_bits};
use super::kv;
use super::rng::Rng;
use super::tolerance::{assert_close, bound};
use kvick::backend::{Attention, Float, KvGroup, KvHalf, KvLayout, KvType, KvTypes, SCALE_GROUP};

const LAYERS: usize = 2;

/// One attention over random sequences.
#[derive(Clone, Debug)]
pub struct Case {
    shape: Shape,
    step: Step,
    layout: KvLayout,
    layer: usize,
    window: Option<usize>,
    softcap: Option<f32>,
    /// Of the compute type, as bits: `[T, heads, dim]`.
    q: Vec<u16>,
    /// Per sequence, K then V.
    caches: Vec<[Cached; 2]>,
}

#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub float: Float,
    pub types: KvTypes,
    pub head_dim: usize,
    pub kv_heads: usize,
    pub group: usize,
    pub page_tokens: usize,
    pub window: Option<usize>,
    pub softcap: Option<f32>,
}

/// K or V of a sequence.
#[derive(Clone, Debug)]
struct Cached {
    /// `[token, kv_head, dim]`: bits of the compute type, or codes.
    elements: Vec<u8>,
    /// f16 `[token, kv_head, dim / 32]`, of codes.
    scales: Vec<u16>,
}

impl Cached {
    fn random(rng: &mut Rng, float: Float, kind: KvType, count: usize) -> Self {
        let scales = |rng: &mut Rng, top: f32| {
            // 7 significant bits, as what writes pages makes them.
            let scale = |_| half::f16::from_f32((0.5 + rng.unit() as f32 * 3.0) / top).to_bits() & 0xfff0;
            (0..count / SCALE_GROUP).map(scale).collect()
        };
        match kind {
            KvType::Int8 => {
                let elements = (0..count).map(|_| (rng.below(255) as i32 - 127) as i8 as u8).collect();
                Cached { elements, scales: scales(rng, 127.0) }
            }
            // Every finite code: large, small, subnormal, both zeros.
            KvType::Fp8 => {
                let elements = (0..count).map(|_| (rng.below(127) + rng.below(2) * 128) as u8).collect();
                Cached { elements, scales: scales(rng, 448.0) }
            }
            KvType::F16 | KvType::BF16 => {
                let bits = to_bits(float, &rng.normals(count, 1.0));
                Cached { elements: bytemuck::cast_slice(&bits).to_vec(), scales: Vec::new() }
            }
        }
    }

    /// Writes a token's head into what the head has in the page.
    fn place(&self, l: &KvLayout, half: KvHalf, to: &mut [u8], row: usize, token: usize) {
        let (dims, size) = (l.head_dim, l.types.of(half).bytes());
        for (dim, element) in self.elements[row * dims * size..][..dims * size].chunks_exact(size).enumerate() {
            to[kv::element_at(l, half, token, dim)..][..size].copy_from_slice(element);
        }
        if l.types.of(half).is_quantised() {
            let groups = dims / SCALE_GROUP;
            for (g, scale) in self.scales[row * groups..][..groups].iter().enumerate() {
                to[kv::scale_at(l, token, g * SCALE_GROUP)..][..2].copy_from_slice(&scale.to_le_bytes());
            }
        }
    }
}

impl Case {
    pub fn new(rng: &mut Rng, kind: Kind, seqs: &[Seq]) -> Self {
        let heads = kind.kv_heads * kind.group;
        let Kind { head_dim, kv_heads, page_tokens, float, .. } = kind;
        let shape = Shape { width: 64, ff: 64, heads, kv_heads, head_dim, vocab: 100 };
        let step = Step::random(rng, shape, seqs, page_tokens, &[None, kind.window]);
        let layout = KvLayout { layers: LAYERS, kv_heads, head_dim, page_tokens, types: kind.types };
        let q = to_bits(float, &rng.normals(step.tokens() * heads * head_dim, 1.5));
        let cache = |&tokens: &u32| {
            let count = tokens as usize * kv_heads * head_dim;
            KvHalf::BOTH.map(|half| Cached::random(rng, float, kind.types.of(half), count))
        };
        let caches = step.host.kv_len.iter().map(cache).collect();
        Case { shape, step, layout, layer: rng.below(LAYERS), window: kind.window, softcap: kind.softcap, q, caches }
    }

    /// The pool of the case's group: NaN wherever no token of a sequence lies.
    fn pages(&self) -> Vec<u8> {
        let l = &self.layout;
        let mut pages = vec![0xff; self.step.pages * l.page_bytes()];
        for (s, cache) in self.caches.iter().enumerate() {
            for position in 0..self.step.host.kv_len[s] as usize {
                let Some((page, offset)) = self.step.place(1, s, position) else { continue };
                for (half, cached) in KvHalf::BOTH.into_iter().zip(cache) {
                    for head in 0..l.kv_heads {
                        let at = page * l.page_bytes() + l.head_offset(half, self.layer, head);
                        let to = &mut pages[at..at + l.head_bytes(half)];
                        cached.place(l, half, to, position * l.kv_heads + head, offset);
                    }
                }
            }
        }
        pages
    }

    /// Bits of the output.
    pub fn run(&self, device: &Device) -> Vec<u16> {
        let batch = self.step.load(device);
        let kv = KvGroup { layout: self.layout, pages: self.step.pages, data: device.upload(&self.pages()) };
        let out = device.poisoned(self.q.len() * 2);
        let op = Attention {
            batch: &batch,
            q: &device.upload(&self.q),
            heads: self.shape.heads,
            kv: &kv,
            group: 1,
            layer: self.layer,
            scale: 1.0 / (self.shape.head_dim as f32).sqrt(),
            softcap: self.softcap,
            window: self.window,
            out: &out,
        };
        let once = || {
            let done = device.backend.attention(&op).and_then(|()| device.backend.finish());
            done.unwrap_or_else(|e| panic!("{}: {e}", device.name));
            device.download(&out, self.q.len())
        };
        let first = once();
        device.backend.upload(&out, 0, &vec![0xff; self.q.len() * 2]).unwrap();
        assert_eq!(once(), first, "{}: a second launch finds the scratch as the first did", device.name);
        first
    }

    /// The same sequences elsewhere in the pool.
    fn moved(&self, rng: &mut Rng) -> Self {
        let mut to: Vec<u32> = (0..self.step.pages as u32).collect();
        rng.shuffle(&mut to);
        let mut moved = self.clone();
        let group = &mut moved.step.host.groups[1];
        for page in group.page_tables.iter_mut().flatten().filter(|p| **p != u32::MAX) {
            *page = to[*page as usize];
        }
        let tokens = self.layout.page_tokens as u32;
        group.slot_mapping.iter_mut().for_each(|slot| *slot = to[(*slot / tokens) as usize] * tokens + *slot % tokens);
        moved
    }

    fn row_elements(&self) -> usize {
        self.shape.heads * self.shape.head_dim
    }
}

pub fn random_kind(rng: &mut Rng, float: Float) -> Kind {
    let kind = Kind {
        float,
        types: float.into(),
        head_dim: rng.pick(&[64, 96, 128, 256]),
        kv_heads: 1 + rng.below(3),
        group: 1 + rng.below(8),
        page_tokens: rng.pick(&[8, 16, 32]),
        window: rng.pick(&[None, None, Some(1), Some(7), Some(33), Some(200)]),
        softcap: rng.pick(&[None, None, Some(2.0), Some(50.0)]),
    };
    Kind { types: random_types(rng, float), ..kind }
}

/// Each half of the compute type or quantised.
pub fn random_types(rng: &mut Rng, float: Float) -> KvTypes {
    let kinds = [float.into(), KvType::Int8, KvType::Fp8];
    KvTypes { k: rng.pick(&kinds), v: rng.pick(&kinds) }
}

pub fn random_seqs(rng: &mut Rng) -> Vec<Seq> {
    let seq = |rng: &mut Rng| match rng.below(4) {
        0 => Seq { new: 1 + rng.below(90), cached: 0 },
        1 => Seq { new: 1 + rng.below(40), cached: rng.below(150) },
        _ => Seq { new: 1, cached: rng.below(300) },
    };
    (0..1 + rng.below(4)).map(|_| seq(rng)).collect()
}

/// Units in the last place between two values of a compute type.
fn ulps(a: u16, b: u16) -> u32 {
    let ordered = |bits: u16| if bits & 0x8000 != 0 { -i32::from(bits & 0x7fff) } else { i32::from(bits) };
    ordered(a).abs_diff(ordered(b))
}

/// Within a unit in the last place, or so near zero that the unit is below the rounding of the f32 sums.
fn assert_one_ulp(what: &str, float: Float, a: &[u16], b: &[u16]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (i, (&x, &y)) in a.iter().zip(b).enumerate() {
        let (xf, yf) = (from_bits(float, &[x])[0], from_bits(float, &[y])[0]);
        assert!(ulps(x, y) <= 1 || (xf - yf).abs() < 2e-6, "{what}: element {i}: {xf} and {yf}");
    }
}

/// Every device but the first (the oracle) against it.
pub fn against_oracle(devices: &[Device], seed: u64, kind: Kind, seqs: &[Seq]) {
    let case = Case::new(&mut Rng::new(seed), kind, seqs);
    let expected = from_bits(kind.float, &case.run(&devices[0]));
    let keys = case.step.host.kv_len.iter().max().map_or(0, |&n| n as usize);
    for device in &devices[1..] {
        let what = format!("{} seed {seed}: {kind:?} over {seqs:?}", device.name);
        assert_close(&what, &from_bits(kind.float, &case.run(device)), &expected, bound(kind.float, keys));
    }
}

/// The same bits wherever the pages lie.
pub fn moved_pages(device: &Device, seed: u64, kind: Kind, seqs: &[Seq]) {
    let mut rng = Rng::new(seed);
    let case = Case::new(&mut rng, kind, seqs);
    let moved = case.moved(&mut rng);
    assert_eq!(case.run(device), moved.run(device), "{} seed {seed}: {kind:?} over {seqs:?}", device.name);
}

/// A long decode alone is split over the device's SMs; among many others it is not.
pub fn split_keys(device: &Device, seed: u64, kind: Kind) {
    let mut rng = Rng::new(seed);
    let long = Seq { new: 1, cached: 1700 + rng.below(100) };
    let alone = Case::new(&mut rng, kind, &[long]);
    let mut seqs = vec![long];
    seqs.resize(400, Seq { new: 1, cached: 0 });
    let mut among = Case::new(&mut rng, kind, &seqs);
    among.layer = alone.layer;
    among.caches[0] = alone.caches[0].clone();
    let row = alone.row_elements();
    among.q[..row].copy_from_slice(&alone.q);
    let what = format!("{} seed {seed}: {kind:?}", device.name);
    assert_one_ulp(&what, kind.float, &alone.run(device), &among.run(device)[..row]);
}

/// The last token of a prefill chunk is what a decode of that token gives.
pub fn cut_prompt(device: &Device, seed: u64, kind: Kind, cached: usize, new: usize) {
    let mut rng = Rng::new(seed);
    let chunk = Case::new(&mut rng, kind, &[Seq { new, cached }]);
    let mut decode = Case::new(&mut rng, kind, &[Seq { new: 1, cached: cached + new - 1 }]);
    decode.layer = chunk.layer;
    decode.caches = chunk.caches.clone();
    let row = chunk.row_elements();
    decode.q = chunk.q[(new - 1) * row..].to_vec();
    let what = format!("{} seed {seed}: {kind:?}, {new} tokens after {cached}", device.name);
    assert_one_ulp(&what, kind.float, &chunk.run(device)[(new - 1) * row..], &decode.run(device));
}
