// SPDX-License-Identifier: Apache-2.0
// One case for each labelled constraint of the llm dialect.
// RUN: llmc-opt %s -split-input-file -verify-diagnostics

// param (C1): rank 3.
// expected-error @+1 {{(C1) expects a static tensor of rank 1 or 2}}
llm.param @p : tensor<2x3x4xf32>

// -----

// param (C1): not static.
// expected-error @+1 {{(C1) expects a static tensor of rank 1 or 2}}
llm.param @p : tensor<?x4xf32>

// -----

// param (C1): no elements.
// expected-error @+1 {{(C1) expects a static tensor of rank 1 or 2}}
llm.param @p : tensor<0x4xf32>

// -----

// param (C2): the dimension does not exist.
// expected-error @+1 {{(C2) expects a split of an existing dimension into whole units}}
llm.param @p : tensor<5x4xf32> split #llm.split<dim = 2>

// -----

// param (C2): 5 is not a whole number of units of 3.
// expected-error @+1 {{(C2) expects a split of an existing dimension into whole units}}
llm.param @p : tensor<5x4xf32> split #llm.split<dim = 0, unit = 3>

// -----

// param (C2): no group.
// expected-error @+1 {{(C2) expects a split of an existing dimension into whole units}}
llm.param @p : tensor<5x4xf32> split #llm.split<dim = 0, unit = 5, group = 0>

// -----

// get_param (C1): a cache is not a parameter.
llm.cache @c : memref<1x64x1x8xf32>
func.func @f() {
  // expected-error @+1 {{(C1) expects a parameter, got @c}}
  %0 = llm.get_param @c : tensor<5x4xf32>
  return
}

// -----

// get_param (C2): another type.
llm.param @p : tensor<5x4xf32>
func.func @f() {
  // expected-error @+1 {{(C2) expects the type of @p}}
  %0 = llm.get_param @p : tensor<4x5xf32>
  return
}

// -----

// get_param (C2): flat, but the parameter has no shard.
llm.param @p : tensor<5x4xf32>
func.func @f() {
  // expected-error @+1 {{(C2) expects the type of @p}}
  %0 = llm.get_param @p : tensor<10xf32>
  return
}

// -----

// cache (C1): rank 3.
// expected-error @+1 {{(C1) expects a static memref of rank 4}}
llm.cache @c : memref<1x64x8xf32>

// -----

// get_cache (C1): another type.
llm.cache @c : memref<1x64x1x8xf32>
func.func @f() {
  // expected-error @+1 {{(C1) expects a cache of type}}
  %0 = llm.get_cache @c : memref<1x64x2x8xf32>
  return
}

// -----

// get_cache (C1): no such symbol.
func.func @f() {
  // expected-error @+1 {{(C1) expects a cache of type}}
  %0 = llm.get_cache @c : memref<1x64x2x8xf32>
  return
}

// -----

// embedding (C1): ids are [S, R].
func.func @f(%ids: tensor<5xi32>, %t: tensor<31x18xf32>) {
  // expected-error @+1 {{(C1) expects ids of rank 2}}
  %0 = llm.embedding %ids, %t : (tensor<5xi32>, tensor<31x18xf32>) -> tensor<5x18xf32>
  return
}

// -----

// embedding (C1): rows of the table have another width.
func.func @f(%ids: tensor<1x5xi32>, %t: tensor<31x18xf32>) {
  // expected-error @+1 {{(C1) expects equal widths, got 18 and 17}}
  %0 = llm.embedding %ids, %t : (tensor<1x5xi32>, tensor<31x18xf32>) -> tensor<5x17xf32>
  return
}

// -----

// linear (C1): inner widths.
func.func @f(%x: tensor<5x18xf32>, %w: tensor<7x17xf32>) {
  // expected-error @+1 {{(C1) expects equal inner widths, got 18 and 17}}
  %0 = llm.linear %x, %w : (tensor<5x18xf32>, tensor<7x17xf32>) -> tensor<5x7xf32>
  return
}

// -----

// linear (C1): rows.
func.func @f(%x: tensor<5x18xf32>, %w: tensor<7x18xf32>) {
  // expected-error @+1 {{(C1) expects equal rows, got 5 and 4}}
  %0 = llm.linear %x, %w : (tensor<5x18xf32>, tensor<7x18xf32>) -> tensor<4x7xf32>
  return
}

// -----

// linear (C1): outer widths.
func.func @f(%x: tensor<5x18xf32>, %w: tensor<7x18xf32>) {
  // expected-error @+1 {{(C1) expects equal outer widths, got 7 and 8}}
  %0 = llm.linear %x, %w : (tensor<5x18xf32>, tensor<7x18xf32>) -> tensor<5x8xf32>
  return
}

// -----

// add_bias (C1).
func.func @f(%x: tensor<5x18xf32>, %b: tensor<17xf32>) {
  // expected-error @+1 {{(C1) expects equal widths, got 18 and 17}}
  %0 = llm.add_bias %x, %b : tensor<5x18xf32>, tensor<17xf32>
  return
}

// -----

// rms_norm (C1): 18 is not a whole number of 4s.
func.func @f(%x: tensor<5x18xf32>, %w: tensor<4xf32>) {
  // expected-error @+1 {{(C1) expects rows of whole widths of the weight, got 18 and 4}}
  %0 = llm.rms_norm %x, %w {eps = 1.0e-5 : f64} : tensor<5x18xf32>, tensor<4xf32>
  return
}

// -----

// layer_norm (C1): the bias.
func.func @f(%x: tensor<5x18xf32>, %w: tensor<18xf32>, %b: tensor<9xf32>) {
  // expected-error @+1 {{(C1) expects equal widths, got 18 and 9}}
  %0 = llm.layer_norm %x, %w, %b {eps = 1.0e-5 : f64} : tensor<5x18xf32>, tensor<18xf32>, tensor<9xf32>
  return
}

// -----

// rope (C1): half a head.
func.func @f(%x: tensor<5x18xf32>, %p: tensor<1x5xi32>) {
  // expected-error @+1 {{(C1) expects x of whole heads of width 12, got width 18}}
  %0 = llm.rope %x, %p {head_dim = 12 : i64, params = #llm.rope_params<rotary = 12, theta = 10000.0>} : tensor<5x18xf32>, tensor<1x5xi32>
  return
}

// -----

// rope (C2): an odd width.
func.func @f(%x: tensor<5x18xf32>, %p: tensor<1x5xi32>) {
  // expected-error @+1 {{(C2) expects an even rotary width up to the head width 6, got 3}}
  %0 = llm.rope %x, %p {head_dim = 6 : i64, params = #llm.rope_params<rotary = 3, theta = 10000.0>} : tensor<5x18xf32>, tensor<1x5xi32>
  return
}

// -----

// rope (C2): wider than the head.
func.func @f(%x: tensor<5x18xf32>, %p: tensor<1x5xi32>) {
  // expected-error @+1 {{(C2) expects an even rotary width up to the head width 6, got 8}}
  %0 = llm.rope %x, %p {head_dim = 6 : i64, params = #llm.rope_params<rotary = 8, theta = 10000.0>} : tensor<5x18xf32>, tensor<1x5xi32>
  return
}

// -----

// attention (C1): 9 query heads on 2 key/value heads.
func.func @f(%q: tensor<5x54xf32>, %k: tensor<5x12xf32>, %p: tensor<1x5xi32>) {
  // expected-error @+1 {{(C1) expects query heads in whole groups, got 9 query and 2 key/value heads}}
  %0 = llm.attention %q, %k, %k, %p {head_dim = 6 : i64, scale = 0.25 : f64} : tensor<5x54xf32>, tensor<5x12xf32>, tensor<1x5xi32>
  return
}

// -----

// attention (C1): half a head.
func.func @f(%q: tensor<5x54xf32>, %k: tensor<5x9xf32>, %p: tensor<1x5xi32>) {
  // expected-error @+1 {{(C1) expects k of whole heads of width 6, got width 9}}
  %0 = llm.attention %q, %k, %k, %p {head_dim = 6 : i64, scale = 0.25 : f64} : tensor<5x54xf32>, tensor<5x9xf32>, tensor<1x5xi32>
  return
}

// -----

// kv_append (C1): the cache has 3 heads of 6.
func.func @f(%c: memref<2x64x3x6xf32>, %x: tensor<5x12xf32>, %p: tensor<1x5xi32>, %t: tensor<1x2xi32>) {
  // expected-error @+1 {{(C1) expects equal widths, got 12 and 18}}
  llm.kv_append %c, %x, %p, %t : memref<2x64x3x6xf32>, tensor<5x12xf32>, tensor<1x5xi32>, tensor<1x2xi32>
  return
}

// -----

// cached_attention (C1): two caches of different types.
func.func @f(%q: tensor<5x54xf32>, %k: memref<2x64x3x6xf32>, %v: memref<2x64x1x6xf32>, %p: tensor<1x5xi32>, %t: tensor<1x2xi32>) {
  // expected-error @+1 {{(C1) expects two caches of one type and rank 4}}
  %0 = llm.cached_attention %q, %k, %v, %p, %t {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<5x54xf32>, memref<2x64x3x6xf32>, memref<2x64x1x6xf32>, tensor<1x5xi32>, tensor<1x2xi32>) -> tensor<5x54xf32>
  return
}

// -----

// cached_attention (C1): heads of another width.
func.func @f(%q: tensor<5x54xf32>, %k: memref<2x64x3x9xf32>, %p: tensor<1x5xi32>, %t: tensor<1x2xi32>) {
  // expected-error @+1 {{(C1) expects equal head widths, got 9 and 6}}
  %0 = llm.cached_attention %q, %k, %k, %p, %t {group = 3 : i64, head_dim = 6 : i64, scale = 0.25 : f64} : (tensor<5x54xf32>, memref<2x64x3x9xf32>, memref<2x64x3x9xf32>, tensor<1x5xi32>, tensor<1x2xi32>) -> tensor<5x54xf32>
  return
}

// -----

// select_rows (C1): three sequences, two rows.
func.func @f(%x: tensor<6x18xf32>, %v: tensor<3xi32>) {
  // expected-error @+1 {{(C1) expects equal sequences, got 3 and 2}}
  %0 = llm.select_rows %x, %v : (tensor<6x18xf32>, tensor<3xi32>) -> tensor<2x18xf32>
  return
}

// -----

// sample (C1): two seeds for three sequences.
func.func @f(%l: tensor<3x31xf32>, %r: tensor<3xf32>, %i: tensor<3xi32>, %s: tensor<2xi64>) {
  // expected-error @+1 {{(C1) expects 3 values per operand}}
  %0 = llm.sample %l, %r, %i, %r, %s, %i, %i : (tensor<3x31xf32>, tensor<3xf32>, tensor<3xi32>, tensor<3xf32>, tensor<2xi64>, tensor<3xi32>, tensor<3xi32>) -> tensor<3xi32>
  return
}
