// SPDX-License-Identifier: Apache-2.0
// Chat templates against transformers' rendering of the same Jinja text, and
// what is not recognised.
#include "runtime/io/tokenizer/ChatTemplate.h"
#include "runtime/io/tokenizer/JinjaOutline.h"
#include "tests/runtime/tokenizer/TokenizerTestData.h"

#include <gmock/gmock.h>
#include <map>
#include <nlohmann/json.hpp>

namespace llmrt {
namespace {

using nlohmann::json;

json readFixture() {
  return json::parse(readWholeFile(fixtureFile("chat.json")));
}

std::vector<ChatMessage> readMessages(const json& conversation) {
  std::vector<ChatMessage> messages;
  for (const json& message : conversation)
    messages.push_back({message["role"].get<std::string>(),
                        message["content"].get<std::string>()});
  return messages;
}

// The Jinja text of a template of the fixture, "" if its file is absent.
std::string jinjaOf(const json& fixture, const std::string& name) {
  if (fixture["templates"].contains(name))
    return fixture["templates"][name].get<std::string>();
  if (name == "smollm2") {
    auto tokenizer = Tokenizer::load(smolLm2File());
    return tokenizer.ok() ? (*tokenizer)->chatTemplateText() : "";
  }
  std::string file =
      testDataFile(name == "qwen3" ? "tok-qwen3/tokenizer_config.json"
                                   : "tok-llama3/hf-tokenizer_config.json");
  if (file.empty())
    return "";
  return json::parse(readWholeFile(file))["chat_template"].get<std::string>();
}

TEST(ChatTemplate, RendersWhatTransformersRenders) {
  json fixture = readFixture();
  std::map<std::string, std::string> absent;
  for (const json& expected : fixture["rendered"]) {
    std::string name = expected["template"].get<std::string>();
    std::string jinja = jinjaOf(fixture, name);
    auto chat = jinja.empty() ? ChatTemplate::byName(name)
                              : ChatTemplate::recognise(jinja);
    ASSERT_TRUE(chat.ok()) << name << ": " << chat.status();
    EXPECT_EQ(chat->name(), name);
    size_t conversation = expected["conversation"].get<size_t>();
    RenderOptions options;
    options.addGenerationPrompt = expected["addGenerationPrompt"].get<bool>();
    options.disablesThinking = expected["disablesThinking"].get<bool>();
    // Llama 3's template at hand always adds the prompt; the built-in one asks.
    if (jinja.empty() && name == "llama3" && !options.addGenerationPrompt)
      continue;
    auto text = chat->render(
        readMessages(fixture["conversations"][conversation]), options);
    if (expected["text"].is_null())
      EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument)
          << name << " " << conversation;
    else if (text.ok())
      EXPECT_EQ(*text, expected["text"].get<std::string>())
          << name << " " << conversation;
    else
      ADD_FAILURE() << name << " " << conversation << ": " << text.status();
  }
}

TEST(ChatTemplate, NamesAndRecognisesTheSame) {
  json fixture = readFixture();
  for (const auto& [name, jinja] : fixture["templates"].items()) {
    auto named = ChatTemplate::byName(name);
    ASSERT_TRUE(named.ok()) << named.status();
    auto recognised = ChatTemplate::recognise(jinja.get<std::string>());
    ASSERT_TRUE(recognised.ok()) << name << recognised.status();
    std::vector<ChatMessage> messages = {{"user", "Hi"}, {"assistant", "Ho"}};
    EXPECT_EQ(*named->render(messages), *recognised->render(messages)) << name;
  }
}

TEST(ChatTemplate, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(std::string(ChatTemplate::byName("vicuna").status().message()),
              testing::HasSubstr("LLMC-E0508"));
  for (const char* jinja :
       {"", "{{", "{% for", "hello", "{{ messages }}", "{{'", "{#"})
    EXPECT_FALSE(ChatTemplate::recognise(jinja).ok()) << jinja;
}

// Each change makes a template write something else than the built-in one.
TEST(ChatTemplate, RefusesChangedTemplates) {
  json fixture = readFixture();

  struct Change {
    const char* name;
    const char* from;
    const char* to;
  };

  for (const Change& change : {
           Change{"chatml", "{% endfor %}", "\n{% endfor %}"},
           Change{"chatml", "message['content'] +",
                  "message['content'] | trim +"},
           Change{"chatml", "{% for", "{{ bos_token }}{% for"},
           Change{"chatml", "<|im_end|>' + '\\n'", "<|im_end|>'"},
           Change{"chatml", "assistant\\n'", "assistant\\n<think>\\n'"},
           Change{"qwen2", "loop.first and messages[0]['role'] != 'system'",
                  "loop.first"},
           Change{"llama2", ".strip() + ' [/INST]'", " + ' [/INST]'"},
           Change{"llama2", "system_message = false",
                  "system_message = 'Be nice'"},
           Change{"llama3.1", "Today Date: ", "Date: "},
           Change{"mistral", "' [/INST]'", "'[/INST]'"},
           Change{"mistral", "{{ bos_token }}", ""},
           Change{"gemma", "| trim", ""},
           Change{"gemma3", "messages[0]['content'] + '\n\n'",
                  "messages[0]['content'] + '\n'"},
           Change{"zephyr", "+ eos_token }}\n", "+ eos_token }}"},
       }) {
    std::string jinja = fixture["templates"][change.name].get<std::string>();
    size_t at = jinja.find(change.from);
    ASSERT_NE(at, std::string::npos) << change.name << ": " << change.from;
    jinja.replace(at, std::string(change.from).size(), change.to);
    auto chat = ChatTemplate::recognise(jinja);
    EXPECT_FALSE(chat.ok()) << change.name << ": " << change.from;
  }
}

TEST(ChatTemplate, RefusesMessagesThatDoNotFit) {
  for (const std::string& name : ChatTemplate::names()) {
    auto chat = ChatTemplate::byName(name);
    ASSERT_TRUE(chat.ok());
    EXPECT_FALSE(chat->render({}).ok()) << name;
    std::vector<ChatMessage> tool = {{"user", "Hi"}, {"tool", "1"}};
    EXPECT_THAT(std::string(chat->render(tool).status().message()),
                testing::HasSubstr("LLMC-E0509"))
        << name;
  }
}

TEST(JinjaOutline, KeepsExactlyTheTextThatATemplateWrites) {
  EXPECT_EQ(outlineJinja("{% if a %}\n  {{ b }}\n  {% endif %}\n").text,
            "{%ifa%}  {{b}}\n{%endif%}");
  EXPECT_EQ(outlineJinja("{%- if a -%}\n  {{- \"x y\" -}}\n").text,
            "{%ifa%}{{'x y'}}");
  EXPECT_EQ(outlineJinja("{# c #}{{ 'a\nb' + m.role }}").text,
            "{{'a\\nb'+m['role']}}");
  EXPECT_FALSE(outlineJinja("{{ a }}{% b %}\n").hasPlainText);
  EXPECT_TRUE(outlineJinja("{{ a }}\n{% b %}").hasPlainText);
}

} // namespace
} // namespace llmrt
