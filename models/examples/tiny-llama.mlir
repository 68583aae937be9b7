// SPDX-License-Identifier: Apache-2.0
// A Llama of two layers, small enough to read and to edit. Made with
//   llmc import --new=llama,layers=2,hidden=64,heads=4,kv_heads=2,intermediate=128,vocab=256,context=256,tied=1 -o tiny-llama.mlir
// and compiled with llmc compile tiny-llama.mlir; weights: llmrt run --weights=random:SEED.
module attributes {llm.model = {config = "{\22hidden_size\22:64,\22intermediate_size\22:128,\22max_position_embeddings\22:256,\22num_attention_heads\22:4,\22num_hidden_layers\22:2,\22num_key_value_heads\22:2,\22rms_norm_eps\22:1e-05,\22tie_word_embeddings\22:true,\22vocab_size\22:256,\22model_type\22:\22llama\22,\22architectures\22:[\22LlamaForCausalLM\22]}", context_length = 256 : i64, family = "llama", head_dim = 16 : i64, heads = 4 : i64, hidden_size = 64 : i64, kv_heads = 2 : i64, layers = 2 : i64, vocab_size = 256 : i64}} {
  llm.param @model.embed_tokens.weight : tensor<256x64xf32> split <dim = 0> init <normal, 2.000000e-02>
  llm.param @model.layers.0.input_layernorm.weight : tensor<64xf32> init <ones>
  llm.param @model.layers.0.self_attn.q_proj.weight : tensor<64x64xf32> split <dim = 0, unit = 16> init <normal, 2.000000e-02>
  llm.param @model.layers.0.self_attn.k_proj.weight : tensor<32x64xf32> split <dim = 0, unit = 16, group = 2> init <normal, 2.000000e-02>
  llm.param @model.layers.0.self_attn.v_proj.weight : tensor<32x64xf32> split <dim = 0, unit = 16, group = 2> init <normal, 2.000000e-02>
  llm.param @model.layers.0.self_attn.o_proj.weight : tensor<64x64xf32> split <dim = 1, unit = 16> init <normal, 2.000000e-02>
  llm.param @model.layers.0.post_attention_layernorm.weight : tensor<64xf32> init <ones>
  llm.param @model.layers.0.mlp.gate_proj.weight : tensor<128x64xf32> split <dim = 0> init <normal, 2.000000e-02>
  llm.param @model.layers.0.mlp.up_proj.weight : tensor<128x64xf32> split <dim = 0> init <normal, 2.000000e-02>
  llm.param @model.layers.0.mlp.down_proj.weight : tensor<64x128xf32> split <dim = 1> init <normal, 2.000000e-02>
  llm.param @model.layers.1.input_layernorm.weight : tensor<64xf32> init <ones>
  llm.param @model.layers.1.self_attn.q_proj.weight : tensor<64x64xf32> split <dim = 0, unit = 16> init <normal, 2.000000e-02>
  llm.param @model.layers.1.self_attn.k_proj.weight : tensor<32x64xf32> split <dim = 0, unit = 16, group = 2> init <normal, 2.000000e-02>
  llm.param @model.layers.1.self_attn.v_proj.weight : tensor<32x64xf32> split <dim = 0, unit = 16, group = 2> init <normal, 2.000000e-02>
  llm.param @model.layers.1.self_attn.o_proj.weight : tensor<64x64xf32> split <dim = 1, unit = 16> init <normal, 2.000000e-02>
  llm.param @model.layers.1.post_attention_layernorm.weight : tensor<64xf32> init <ones>
  llm.param @model.layers.1.mlp.gate_proj.weight : tensor<128x64xf32> split <dim = 0> init <normal, 2.000000e-02>
  llm.param @model.layers.1.mlp.up_proj.weight : tensor<128x64xf32> split <dim = 0> init <normal, 2.000000e-02>
  llm.param @model.layers.1.mlp.down_proj.weight : tensor<64x128xf32> split <dim = 1> init <normal, 2.000000e-02>
  llm.param @model.norm.weight : tensor<64xf32> init <ones>
  func.func private @layer(%x: tensor<?x64xf32>, %positions: tensor<?x?xi32>, %input_layernorm.weight: tensor<64xf32>, %self_attn.q_proj.weight: tensor<64x64xf32>, %self_attn.k_proj.weight: tensor<32x64xf32>, %self_attn.v_proj.weight: tensor<32x64xf32>, %self_attn.o_proj.weight: tensor<64x64xf32>, %post_attention_layernorm.weight: tensor<64xf32>, %mlp.gate_proj.weight: tensor<128x64xf32>, %mlp.up_proj.weight: tensor<128x64xf32>, %mlp.down_proj.weight: tensor<64x128xf32>) -> tensor<?x64xf32> attributes {llm.block} {
    %layer.input_layernorm = llm.rms_norm %x, %input_layernorm.weight {eps = 1.000000e-05 : f64} : tensor<?x64xf32>, tensor<64xf32>
    %layer.self_attn.q_proj = llm.linear %layer.input_layernorm, %self_attn.q_proj.weight : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
    %layer.self_attn.k_proj = llm.linear %layer.input_layernorm, %self_attn.k_proj.weight : (tensor<?x64xf32>, tensor<32x64xf32>) -> tensor<?x32xf32>
    %layer.self_attn.v_proj = llm.linear %layer.input_layernorm, %self_attn.v_proj.weight : (tensor<?x64xf32>, tensor<32x64xf32>) -> tensor<?x32xf32>
    %layer.self_attn.q_proj.rope = llm.rope %layer.self_attn.q_proj, %positions {head_dim = 16 : i64, params = #llm.rope_params<rotary = 16, theta = 1.000000e+04>} : tensor<?x64xf32>, tensor<?x?xi32>
    %layer.self_attn.k_proj.rope = llm.rope %layer.self_attn.k_proj, %positions {head_dim = 16 : i64, params = #llm.rope_params<rotary = 16, theta = 1.000000e+04>} : tensor<?x32xf32>, tensor<?x?xi32>
    %layer.attention = llm.attention %layer.self_attn.q_proj.rope, %layer.self_attn.k_proj.rope, %layer.self_attn.v_proj, %positions {head_dim = 16 : i64, scale = 2.500000e-01 : f64} : tensor<?x64xf32>, tensor<?x32xf32>, tensor<?x?xi32>
    %layer.self_attn.o_proj = llm.linear %layer.attention, %self_attn.o_proj.weight : (tensor<?x64xf32>, tensor<64x64xf32>) -> tensor<?x64xf32>
    %layer.add = llm.add %x, %layer.self_attn.o_proj : tensor<?x64xf32>
    %layer.post_attention_layernorm = llm.rms_norm %layer.add, %post_attention_layernorm.weight {eps = 1.000000e-05 : f64} : tensor<?x64xf32>, tensor<64xf32>
    %layer.mlp.gate_proj = llm.linear %layer.post_attention_layernorm, %mlp.gate_proj.weight : (tensor<?x64xf32>, tensor<128x64xf32>) -> tensor<?x128xf32>
    %layer.mlp.up_proj = llm.linear %layer.post_attention_layernorm, %mlp.up_proj.weight : (tensor<?x64xf32>, tensor<128x64xf32>) -> tensor<?x128xf32>
    %layer.gated_activation = llm.gated_activation %layer.mlp.gate_proj, %layer.mlp.up_proj {kind = #llm.activation<silu>} : tensor<?x128xf32>
    %layer.mlp.down_proj = llm.linear %layer.gated_activation, %mlp.down_proj.weight : (tensor<?x128xf32>, tensor<64x128xf32>) -> tensor<?x64xf32>
    %layer.add_0 = llm.add %layer.add, %layer.mlp.down_proj : tensor<?x64xf32>
    return %layer.add_0 : tensor<?x64xf32>
  }
  func.func @forward(%ids: tensor<?x?xi32>, %positions: tensor<?x?xi32>) -> tensor<?x256xf32> attributes {llm.entry = "forward"} {
    %model.embed_tokens.weight = llm.get_param @model.embed_tokens.weight : tensor<256x64xf32>
    %embedding = llm.embedding %ids, %model.embed_tokens.weight : (tensor<?x?xi32>, tensor<256x64xf32>) -> tensor<?x64xf32>
    %model.layers.0.input_layernorm.weight = llm.get_param @model.layers.0.input_layernorm.weight : tensor<64xf32>
    %model.layers.0.self_attn.q_proj.weight = llm.get_param @model.layers.0.self_attn.q_proj.weight : tensor<64x64xf32>
    %model.layers.0.self_attn.k_proj.weight = llm.get_param @model.layers.0.self_attn.k_proj.weight : tensor<32x64xf32>
    %model.layers.0.self_attn.v_proj.weight = llm.get_param @model.layers.0.self_attn.v_proj.weight : tensor<32x64xf32>
    %model.layers.0.self_attn.o_proj.weight = llm.get_param @model.layers.0.self_attn.o_proj.weight : tensor<64x64xf32>
    %model.layers.0.post_attention_layernorm.weight = llm.get_param @model.layers.0.post_attention_layernorm.weight : tensor<64xf32>
    %model.layers.0.mlp.gate_proj.weight = llm.get_param @model.layers.0.mlp.gate_proj.weight : tensor<128x64xf32>
    %model.layers.0.mlp.up_proj.weight = llm.get_param @model.layers.0.mlp.up_proj.weight : tensor<128x64xf32>
    %model.layers.0.mlp.down_proj.weight = llm.get_param @model.layers.0.mlp.down_proj.weight : tensor<64x128xf32>
    %layers.0 = call @layer(%embedding, %positions, %model.layers.0.input_layernorm.weight, %model.layers.0.self_attn.q_proj.weight, %model.layers.0.self_attn.k_proj.weight, %model.layers.0.self_attn.v_proj.weight, %model.layers.0.self_attn.o_proj.weight, %model.layers.0.post_attention_layernorm.weight, %model.layers.0.mlp.gate_proj.weight, %model.layers.0.mlp.up_proj.weight, %model.layers.0.mlp.down_proj.weight) : (tensor<?x64xf32>, tensor<?x?xi32>, tensor<64xf32>, tensor<64x64xf32>, tensor<32x64xf32>, tensor<32x64xf32>, tensor<64x64xf32>, tensor<64xf32>, tensor<128x64xf32>, tensor<128x64xf32>, tensor<64x128xf32>) -> tensor<?x64xf32>
    %model.layers.1.input_layernorm.weight = llm.get_param @model.layers.1.input_layernorm.weight : tensor<64xf32>
    %model.layers.1.self_attn.q_proj.weight = llm.get_param @model.layers.1.self_attn.q_proj.weight : tensor<64x64xf32>
    %model.layers.1.self_attn.k_proj.weight = llm.get_param @model.layers.1.self_attn.k_proj.weight : tensor<32x64xf32>
    %model.layers.1.self_attn.v_proj.weight = llm.get_param @model.layers.1.self_attn.v_proj.weight : tensor<32x64xf32>
    %model.layers.1.self_attn.o_proj.weight = llm.get_param @model.layers.1.self_attn.o_proj.weight : tensor<64x64xf32>
    %model.layers.1.post_attention_layernorm.weight = llm.get_param @model.layers.1.post_attention_layernorm.weight : tensor<64xf32>
    %model.layers.1.mlp.gate_proj.weight = llm.get_param @model.layers.1.mlp.gate_proj.weight : tensor<128x64xf32>
    %model.layers.1.mlp.up_proj.weight = llm.get_param @model.layers.1.mlp.up_proj.weight : tensor<128x64xf32>
    %model.layers.1.mlp.down_proj.weight = llm.get_param @model.layers.1.mlp.down_proj.weight : tensor<64x128xf32>
    %layers.1 = call @layer(%layers.0, %positions, %model.layers.1.input_layernorm.weight, %model.layers.1.self_attn.q_proj.weight, %model.layers.1.self_attn.k_proj.weight, %model.layers.1.self_attn.v_proj.weight, %model.layers.1.self_attn.o_proj.weight, %model.layers.1.post_attention_layernorm.weight, %model.layers.1.mlp.gate_proj.weight, %model.layers.1.mlp.up_proj.weight, %model.layers.1.mlp.down_proj.weight) : (tensor<?x64xf32>, tensor<?x?xi32>, tensor<64xf32>, tensor<64x64xf32>, tensor<32x64xf32>, tensor<32x64xf32>, tensor<64x64xf32>, tensor<64xf32>, tensor<128x64xf32>, tensor<128x64xf32>, tensor<64x128xf32>) -> tensor<?x64xf32>
    %output_rows = llm.output_rows %layers.1 : tensor<?x64xf32>
    %model.norm.weight = llm.get_param @model.norm.weight : tensor<64xf32>
    %model.norm = llm.rms_norm %output_rows, %model.norm.weight {eps = 1.000000e-05 : f64} : tensor<?x64xf32>, tensor<64xf32>
    %logits = llm.linear %model.norm, %model.embed_tokens.weight : (tensor<?x64xf32>, tensor<256x64xf32>) -> tensor<?x256xf32>
    return %logits : tensor<?x256xf32>
  }
}
