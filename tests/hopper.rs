//! One case of every operation on the compute_90a PTX, which an H100 alone takes: the emulated GPU poses as one. Where the
//! device under test is a real GPU, its own PTX is tested.
#![cfg(feature = "engine")]
mod common;

use common::attention::{Kind, against_oracle};
use common::batch::Seq;
use common::device::Device;
use common::pack::{Case, against_description};
use common::products::{embed, linear_residual, norm_gate_up, norm_lm_head, qkv};
use common::sampling::against_reference;
use kvick::backend::{DType, Float, KvType, KvTypes, Packing, Packings};
use kvick::device::{Gpu, select};
use kvick::launch::Cuda;
use std::sync::Arc;

#[test]
fn every_operation_runs_as_on_an_h100() {
    // SAFETY: this program has one test, and no other thread reads the environment yet.
    unsafe { std::env::set_var("KVICK_EMU_GPU", "h100") };
    let name = std::env::var("KVICK_TEST_DEVICE").unwrap_or_else(|_| "emulator".into());
    let gpu = Gpu::open(&select(&name).unwrap().0).unwrap();
    assert!(name != "emulator" || gpu.spec().compute == (9, 0), "{:?}", gpu.spec());
    let cuda = Arc::new(Cuda::new(gpu, Float::F16).unwrap());
    let devices = [Device::open("cpu", Float::F16), Device { name, backend: cuda }];
    embed(&devices, 1, DType::Q8_0);
    for tokens in [3, 40] {
        linear_residual(&devices, 2, DType::Q4_1, tokens);
        norm_gate_up(&devices, 3, DType::Q5_0, tokens);
        norm_lm_head(&devices, 4, DType::Q6_K, tokens);
        let types = if tokens == 3 { KvTypes::both(KvType::Int8) } else { Float::F16.into() };
        qkv(&devices, 5, [DType::Q4_K, DType::Q4_K, DType::Q6_K], tokens, tokens == 3, types);
    }
    let kind = Kind {
        float: Float::F16,
        types: KvTypes { k: KvType::Fp8, v: KvType::Int8 },
        head_dim: 128,
        kv_heads: 2,
        group: 4,
        page_tokens: 16,
        window: Some(70),
        softcap: None,
    };
    against_oracle(&devices, 6, kind, &[Seq { new: 1, cached: 99 }, Seq { new: 1, cached: 3 }]);
    against_oracle(&devices, 7, kind, &[Seq { new: 50, cached: 20 }]);
    against_reference(&devices, 8);
    for packing in [Packing::Int8, Packing::Fp8, Packing::Int4] {
        let case = Case { packings: Packings::both(packing), ..Case::new(Float::F16, 9, (128, 16)) };
        against_description(&devices, &case);
    }
}
