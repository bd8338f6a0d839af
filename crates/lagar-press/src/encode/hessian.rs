//! Second moments of the inputs of linears, and the transform that they suggest.

use lagar_codec::Transform;
use lagar_engine::{Observer, Site, SiteId};
use lagar_kernels::Cpu;

use crate::PressError;
use crate::random::Random;

/// `Σ x xᵀ` over the observed inputs of some sites.
#[derive(Debug)]
pub(crate) struct Hessians<'a> {
    cpu: &'a Cpu,
    sums: Vec<SiteSum>,
}

#[derive(Debug)]
struct SiteSum {
    site: SiteId,
    width: usize,
    count: usize,
    /// `width × width`; only the upper triangle is summed.
    sum: Vec<f32>,
}

impl<'a> Hessians<'a> {
    /// Sums for the given sites; inputs of all others are ignored.
    pub(crate) fn new<'s>(cpu: &'a Cpu, sites: impl IntoIterator<Item = &'s Site>) -> Self {
        let sums = sites
            .into_iter()
            .map(|site| SiteSum {
                site: site.id,
                width: site.width,
                count: 0,
                sum: vec![0.0; site.width * site.width],
            })
            .collect();
        Self { cpu, sums }
    }

    /// The mean `E[x xᵀ]` of one site, `width × width`, given out once.
    pub(crate) fn take(&mut self, site: SiteId) -> Vec<f32> {
        let Some(at) = self.sums.iter().position(|s| s.site == site) else {
            panic!("site {site:?} is not summed");
        };
        let SiteSum {
            width,
            count,
            mut sum,
            ..
        } = self.sums.swap_remove(at);
        let scale = 1.0 / count.max(1) as f32;
        for i in 0..width {
            for j in i..width {
                sum[i * width + j] *= scale;
                sum[j * width + i] = sum[i * width + j];
            }
        }
        sum
    }
}

impl Observer for Hessians<'_> {
    fn input(&mut self, site: SiteId, x: &[f32], n: usize) {
        if let Some(s) = self.sums.iter_mut().find(|s| s.site == site) {
            self.cpu
                .syrk_tn(x, s.width, &mut s.sum, s.width, s.width, n, 1.0);
            s.count += n;
        }
    }
}

/// The transform of a site: columns sorted by the Hessian's diagonal, largest first, so that
/// important ones share groups and are coded first; signs drawn from the seed.
pub(crate) fn choose_transform(
    hessian: &[f32],
    width: usize,
    seed: u64,
    site: u64,
) -> Result<Transform, PressError> {
    let mut perm: Vec<u32> = (0..width as u32).collect();
    let importance = |&i: &u32| hessian[i as usize * width + i as usize];
    perm.sort_by(|a, b| importance(b).total_cmp(&importance(a)).then(a.cmp(b)));
    let mut random = Random::new(seed, site);
    let signs = (0..width).map(|_| random.bit()).collect();
    Ok(Transform::new(width, perm, signs)?)
}

/// `T H Tᵀ`, padded width squared; takes the memory of `hessian`.
pub(crate) fn transform_hessian(
    cpu: &Cpu,
    transform: &Transform,
    mut hessian: Vec<f32>,
) -> Vec<f32> {
    let (width, padded) = (transform.width(), transform.padded_width());
    let mut out = vec![0f32; padded * padded];
    cpu.transform(transform, &hessian, width, &mut out[..width * padded]);
    transpose(&out[..width * padded], width, padded, {
        hessian.resize(padded * width, 0.0);
        &mut hessian
    });
    cpu.transform(transform, &hessian, padded, &mut out);
    out
}

/// `to[c][r] = from[r][c]`, in squares that fit the cache.
fn transpose(from: &[f32], rows: usize, cols: usize, to: &mut [f32]) {
    const SIDE: usize = 32;
    for top in (0..rows).step_by(SIDE) {
        for left in (0..cols).step_by(SIDE) {
            for r in top..rows.min(top + SIDE) {
                for c in left..cols.min(left + SIDE) {
                    to[c * rows + r] = from[r * cols + c];
                }
            }
        }
    }
}
