// SPDX-License-Identifier: Apache-2.0
// Tells a model's Jinja template by the pieces that write its text. All of a
// template's pieces must be there and none that would write something else:
// people change templates, and a changed one is not the one that is built in.
#include "runtime/base/Error.h"
#include "runtime/io/tokenizer/ChatTemplate.h"
#include "runtime/io/tokenizer/JinjaOutline.h"

#include <algorithm>
#include <optional>

namespace llmrt {

struct ChatTemplate::Known {
  std::string_view name;
  Style style = Style::ChatMl;
  std::string_view defaultSystem = {};
  bool hasPlainText = false;
  std::vector<std::string_view> needed = {};
  std::vector<std::string_view> refused = {};
};

absl::Span<const ChatTemplate::Known> ChatTemplate::known() {
  static const auto* table = new std::vector<Known>{
      {.name = "chatml",
       .style = Style::ChatMl,
       .needed =
           {R"('<|im_start|>'+message['role']+'\n'+message['content']+'<|im_end|>'+'\n'}})",
            R"({%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}})"},
       .refused = {"<think>", "bos_token", "eos_token", "trim", "strip(",
                   "system_message", "<|im_sep|>", "thinking"}},
      // Two more names for the same with the default system prompt of a family.
      {.name = "qwen2",
       .style = Style::ChatMl,
       .defaultSystem = "You are a helpful assistant."},
      {.name = "qwen2.5",
       .style = Style::ChatMl,
       .defaultSystem = "You are Qwen, created by Alibaba Cloud. You are a "
                        "helpful assistant."},
      {.name = "smollm2",
       .style = Style::ChatMl,
       .defaultSystem = "You are a helpful AI assistant named SmolLM, trained "
                        "by Hugging Face"},
      {.name = "qwen3",
       .style = Style::Qwen3,
       .needed =
           {R"('<|im_start|>'+message['role']+'\n<think>\n'+reasoning_content.strip('\n')+'\n</think>\n\n'+content.lstrip('\n')}})",
            "{%ifloop.index0>ns.last_query_index%}",
            "{%ifloop.lastor(notloop.lastandreasoning_content)%}",
            R"({%ifadd_generation_prompt%}{{'<|im_start|>assistant\n'}})",
            "{%ifenable_thinkingisdefinedandenable_thinkingisfalse%}",
            R"({{'<think>\n\n</think>\n\n'}})"},
       .refused = {"bos_token", "system_message"}},
      {.name = "llama2",
       .style = Style::Llama2,
       .needed =
           {"{{bos_token+'[INST] '+content.strip()+' [/INST]'}}",
            "{{' '+content.strip()+' '+eos_token}}",
            R"('<<SYS>>\n'+system_message+'\n<</SYS>>\n\n'+message['content'])",
            "{%setsystem_message=false%}"},
       .refused = {"setsystem_message='", "add_generation_prompt"}},
      {.name = "llama3",
       .style = Style::Llama3,
       .needed =
           {R"('<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>'%})",
            "{%ifloop.index0==0%}{%setcontent=bos_token+content%}",
            R"({{'<|start_header_id|>assistant<|end_header_id|>\n\n'}})"},
       .refused = {"Cutting Knowledge", "tools", "system_message"}},
      {.name = "llama3.1",
       .style = Style::Llama31,
       .needed =
           {R"('<|start_header_id|>'+message['role']+'<|end_header_id|>\n\n'+message['content']|trim+'<|eot_id|>'}})",
            R"({{'Cutting Knowledge Date: December 2023\n'}})",
            R"({{'Today Date: '+date_string+'\n\n'}})", "'26 Jul 2024'",
            "{%setsystem_message=messages[0]['content']|trim%}",
            "{%ifadd_generation_prompt%}"},
       .refused = {"<think>"}},
      {.name = "mistral",
       .style = Style::Mistral,
       .needed = {"{{bos_token}}{%formessageinmessages%}",
                  "(message['role']=='user')!=(loop.index0%2==0)",
                  "{{'[INST] '+message['content']+' [/INST]'}}",
                  "{{message['content']+eos_token}}"},
       .refused = {"system", "loop_messages", "add_generation_prompt"}},
      {.name = "mistral-v0.1",
       .style = Style::MistralSpaced,
       .needed = {"{{bos_token}}{%formessageinmessages%}",
                  "(message['role']=='user')!=(loop.index0%2==0)",
                  "{{'[INST] '+message['content']+' [/INST]'}}",
                  "{{message['content']+eos_token+' '}}"},
       .refused = {"system", "loop_messages", "add_generation_prompt"}},
      {.name = "gemma",
       .style = Style::Gemma,
       .needed =
           {"{{bos_token}}{%ifmessages[0]['role']=='system'%}"
            "{{raise_exception('System role not supported')}}",
            "{%setrole='model'%}",
            R"({{'<start_of_turn>'+role+'\n'+message['content']|trim+'<end_of_turn>\n'}})",
            R"({%ifadd_generation_prompt%}{{'<start_of_turn>model\n'}})"}},
      {.name = "gemma3",
       .style = Style::Gemma3,
       .needed =
           {"{{bos_token}}{%ifmessages[0]['role']=='system'%}",
            R"({%setfirst_user_prefix=messages[0]['content']+'\n\n'%})",
            "{%setfirst_user_prefix=''%}",
            R"({{'<start_of_turn>'+role+'\n'+(first_user_prefixifloop.firstelse'')}})",
            "{{message['content']|trim}}", R"({{'<end_of_turn>\n'}}{%endfor%})",
            R"({%ifadd_generation_prompt%}{{'<start_of_turn>model\n'}})"}},
      {.name = "zephyr",
       .style = Style::Zephyr,
       .hasPlainText = true,
       .needed = {"{{'<|user|>\\n'+message['content']+eos_token}}\n{%",
                  "{{'<|system|>\\n'+message['content']+eos_token}}\n{%",
                  "{{'<|assistant|>\\n'+message['content']+eos_token}}\n{%",
                  "{%ifloop.lastandadd_generation_prompt%}"
                  "{{'<|assistant|>'}}\n{%"},
       .refused = {"bos_token", "trim", "strip("}},
  };
  return *table;
}

namespace {

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// Returns what a ChatML template says where there is no system message:
// nothing, or the one text of its literal. Nothing at all if it has several.
std::optional<std::string> defaultSystemOf(std::string_view outline) {
  constexpr std::string_view kBegin = R"('<|im_start|>system\n)";
  constexpr std::string_view kEnd = "<|im_end|>";
  std::string found;
  for (size_t at = 0; (at = outline.find(kBegin, at)) != outline.npos;) {
    at += kBegin.size();
    size_t literalEnd = std::min(outline.find('\'', at), outline.size());
    std::string_view literal = outline.substr(at, literalEnd - at);
    size_t end = literal.find(kEnd);
    if (end == literal.npos)
      continue;
    std::string system(literal.substr(0, end));
    if (contains(system, "\\") || (!found.empty() && found != system))
      return std::nullopt;
    found = system;
  }
  // It has to depend on there being no system message.
  if (!found.empty() && !contains(outline, "messages[0]['role']!='system'") &&
      !contains(outline, "messages[0]['role']=='system'"))
    return std::nullopt;
  return found;
}

std::string joinNames(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names)
    absl::StrAppend(&all, all.empty() ? "" : ", ", name);
  return all;
}

} // namespace

std::vector<std::string> ChatTemplate::names() {
  std::vector<std::string> all;
  for (const Known& entry : known())
    all.emplace_back(entry.name);
  return all;
}

absl::StatusOr<ChatTemplate> ChatTemplate::byName(std::string_view name) {
  for (const Known& entry : known()) {
    if (entry.name != name)
      continue;
    ChatTemplate result;
    result.name_ = std::string(entry.name);
    result.style_ = entry.style;
    result.defaultSystem_ = std::string(entry.defaultSystem);
    return result;
  }
  return makeError(ErrorCode::ChatTemplateUnknown,
                   "no chat template has this name: " + std::string(name),
                   "the names are: " + joinNames(names()));
}

absl::StatusOr<ChatTemplate> ChatTemplate::recognise(std::string_view jinja) {
  JinjaOutline outline = outlineJinja(jinja);
  // The end of a message is written as one literal or as two.
  std::string joined = outline.text;
  constexpr std::string_view kOne = R"('<|im_end|>\n'}})";
  for (size_t at = 0; (at = joined.find(kOne, at)) != std::string::npos;)
    joined.replace(at, kOne.size(), R"('<|im_end|>'+'\n'}})");
  for (const Known& entry : known()) {
    bool isThis = !entry.needed.empty() &&
                  entry.hasPlainText == outline.hasPlainText &&
                  std::all_of(entry.needed.begin(), entry.needed.end(),
                              [&](std::string_view part) {
                                return contains(joined, part);
                              }) &&
                  std::none_of(entry.refused.begin(), entry.refused.end(),
                               [&](std::string_view part) {
                                 return contains(joined, part);
                               });
    if (!isThis)
      continue;
    ChatTemplate result;
    result.name_ = std::string(entry.name);
    result.style_ = entry.style;
    result.alwaysPrompts_ = !contains(joined, "add_generation_prompt");
    if (entry.style != Style::ChatMl)
      return result;
    std::optional<std::string> system = defaultSystemOf(outline.text);
    if (!system)
      continue;
    result.defaultSystem_ = *system;
    for (const Known& named : known())
      if (named.style == Style::ChatMl && named.defaultSystem == *system)
        result.name_ = std::string(named.name);
    return result;
  }
  return makeError(ErrorCode::ChatTemplateUnknown,
                   "the model's chat template is none of the built-in ones",
                   "if one of them fits, name it: " + joinNames(names()));
}

} // namespace llmrt
