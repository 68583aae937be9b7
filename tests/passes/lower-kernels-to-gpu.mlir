// SPDX-License-Identifier: Apache-2.0
// RUN: llmc-opt %s --llmc-lower-kernels-to-gpu --canonicalize --cse | %FileCheck %s
// RUN: llmc-opt %s --llmc-lower-kernels-to-gpu=to-nvvm=true | %FileCheck %s --check-prefix=NVVM

module {
  // A tile is 1024 columns of a row, and a thread takes 4 of them at once. Blocks behind
  // the valid rows do nothing; threads behind the end of the row store nothing.
  // CHECK-LABEL: gpu.func @add_2500
  // CHECK-SAME: (%[[WORDS:[a-z0-9]*]]: !llvm.ptr<1>, %{{.*}}: i64, %{{.*}}: i64, %{{.*}}: i64, %{{.*}}: i64, %{{.*}}: !llvm.ptr<1>)
  // CHECK-SAME: kernel attributes {known_block_size = array<i32: 256, 1, 1>}
  // CHECK: %[[TILE:.*]] = arith.index_cast %{{.*}} : index to i64
  // CHECK: %[[ROW:.*]] = arith.divui %[[TILE]], %c3_i64
  // CHECK: %[[ROWS:.*]] = llvm.load %[[WORDS]] invariant
  // CHECK: %[[HAS_WORK:.*]] = arith.cmpi slt, %[[ROW]], %[[ROWS]]
  // CHECK: scf.if %[[HAS_WORK]]
  // CHECK: arith.remui %[[TILE]], %c3_i64
  // CHECK-COUNT-2: llvm.load {{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
  // CHECK: arith.addf {{.*}} : vector<4xf32>
  // CHECK: scf.if
  // CHECK: llvm.store {{.*}} {alignment = 16 : i64} : vector<4xf32>, !llvm.ptr<1>
  plan.kernel @add_2500 elementwise {
  ^bb0(%x: tensor<?x2500xf32>, %y: tensor<?x2500xf32>):
    %0 = llm.add %x, %y : tensor<?x2500xf32>
    plan.yield %0 : tensor<?x2500xf32>
  }

  // A row of 2048 is two vectors for each of 256 threads: read once, held, summed by a
  // butterfly in each warp, then over the 8 warps in shared memory.
  // CHECK-LABEL: gpu.func @rms_norm_2048
  // CHECK-SAME: workgroup(%[[SHARED:[a-z0-9]*]] : memref<1x8xf32, #gpu.address_space<workgroup>>)
  // CHECK-COUNT-2: llvm.load {{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
  // CHECK-COUNT-5: gpu.shuffle xor
  // CHECK: memref.store {{.*}}, %[[SHARED]]
  // CHECK: gpu.barrier
  // CHECK-COUNT-8: memref.load %[[SHARED]]
  // CHECK: math.sqrt
  // The weight, which no result lies on, comes through the read-only path.
  // CHECK: llvm.load {{.*}} invariant {alignment = 16 : i64} : !llvm.ptr<1> -> vector<4xf32>
  // CHECK: llvm.store
  // CHECK: llvm.store
  // CHECK-NOT: llvm.store
  plan.kernel @rms_norm_2048 {
  ^bb0(%x: tensor<?x2048xf32>, %w: tensor<2048xf32>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x2048xf32>, tensor<2048xf32>
    plan.yield %0 : tensor<?x2048xf32>
  }

  // A head is a warp's: no barrier, and warps take heads 8 apart.
  // CHECK-LABEL: gpu.func @rms_norm_1024
  // CHECK-NOT: workgroup(
  // CHECK: scf.for %{{.*}} = %{{.*}} to %c16_i64 step %c8_i64
  // CHECK-COUNT-5: gpu.shuffle xor
  // CHECK-NOT: gpu.barrier
  // CHECK: gpu.return
  plan.kernel @rms_norm_1024 {
  ^bb0(%x: tensor<?x1024xf32>, %w: tensor<64xf32>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x1024xf32>, tensor<64xf32>
    plan.yield %0 : tensor<?x1024xf32>
  }

  // 16 bytes hold 8 bf16; the widest vector that divides 36 has 4.
  // CHECK-LABEL: gpu.func @scale_64
  // CHECK: llvm.load {{.*}} {alignment = 16 : i64} : !llvm.ptr<1> -> vector<8xi16>
  // CHECK-LABEL: gpu.func @scale_36
  // CHECK: llvm.load {{.*}} {alignment = 8 : i64} : !llvm.ptr<1> -> vector<4xi16>
  plan.kernel @scale_64 elementwise {
  ^bb0(%x: tensor<?x64xbf16>):
    %0 = llm.scale %x {factor = 0.5 : f64} : tensor<?x64xbf16>
    plan.yield %0 : tensor<?x64xbf16>
  }
  plan.kernel @scale_36 elementwise {
  ^bb0(%x: tensor<?x36xbf16>):
    %0 = llm.scale %x {factor = 0.5 : f64} : tensor<?x36xbf16>
    plan.yield %0 : tensor<?x36xbf16>
  }

  // A row too long for registers is walked in a loop, once for the sum and once more.
  // CHECK-LABEL: gpu.func @rms_norm_16384
  // CHECK: scf.for {{.*}} iter_args
  // CHECK: gpu.barrier
  // CHECK: scf.for
  plan.kernel @rms_norm_16384 {
  ^bb0(%x: tensor<?x16384xf32>, %w: tensor<16384xf32>):
    %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<?x16384xf32>, tensor<16384xf32>
    plan.yield %0 : tensor<?x16384xf32>
  }
}

// NVVM-LABEL: llvm.func @add_2500
// NVVM-SAME: nvvm.kernel
// NVVM-SAME: nvvm.maxntid = array<i32: 256, 1, 1>
// NVVM: nvvm.read.ptx.sreg.ctaid.x
// NVVM-LABEL: llvm.func @rms_norm_2048
// NVVM: nvvm.shfl.sync bfly
// NVVM: nvvm.barrier
// NVVM: llvm.intr.sqrt
// NVVM-NOT: {{gpu\.(func|shuffle|barrier|thread_id)}}
