#include "tensor/io/pickle.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "tests/support/pickle_text.h"
#include "tests/support/temp_folder.h"

namespace onpa::io {
namespace {

using Kind = PickleValue::Kind;
using namespace testing::pickle;  // NOLINT: opcodes read best without a prefix

std::string refusal(const std::string& pickle, const PickleLimits& limits = {}) {
  try {
    parse_pickle(bytes(pickle), limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kBadCheckpoint) << error.what();
    return error.what();
  }
  return "accepted";
}

void expect_refused(const std::string& pickle, const std::vector<std::string>& parts,
                    const PickleLimits& limits = {}) {
  const std::string message = refusal(pickle, limits);
  for (const std::string& part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " in: " << message;
  }
}

TEST(Pickle, PlainDataOfEveryKind) {
  const std::string long_number = std::string("\x8a\x02\x00\x80", 4);
  const std::string all = proto(4) + "(N\x88K\x07" + "M\x01\x02" + "J\xff\xff\xff\xff" +
                          long_number + std::string("G\x3f\xf8\0\0\0\0\0\0", 9) + text("ab") +
                          "\x8c\x01z" + "C\x02xy" +
                          "]K\x01"
                          "a" +
                          "}K\x01"
                          "Ns" +
                          "\x8f(K\x02\x90" + "(K\x03\x91" + "t.";
  const Pickle got = parse_pickle(bytes(all));
  const PickleValue& top = got.top();
  ASSERT_EQ(top.kind, Kind::kTuple);
  ASSERT_EQ(top.items.size(), 14u);
  const auto at = [&](std::size_t i) -> const PickleValue& { return got[top.items[i]]; };
  EXPECT_EQ(at(0).kind, Kind::kNone);
  EXPECT_EQ(at(1).integer, 1);
  EXPECT_EQ(at(2).integer, 7);
  EXPECT_EQ(at(3).integer, 0x201);
  EXPECT_EQ(at(4).integer, -1);
  EXPECT_EQ(at(5).integer, -32768);
  EXPECT_EQ(at(6).real, 1.5);
  EXPECT_EQ(at(7).text, "ab");
  EXPECT_EQ(at(8).text, "z");
  EXPECT_EQ(at(9).kind, Kind::kBytes);
  EXPECT_EQ(at(10).items.size(), 1u);
  EXPECT_EQ(at(11).items.size(), 2u);
  EXPECT_EQ(at(12).kind, Kind::kSet);
  EXPECT_EQ(at(13).items.size(), 1u);
  EXPECT_EQ(got.bytes_used, all.size());
}

// Nothing of this may run: no process, no file.
TEST(Pickle, CodeIsRefusedAndNotRun) {
  const testing::TempFolder folder;
  const std::string mark = (folder / "made").string();
  const std::string shell = text("touch " + mark);
  const std::string python = text("open('" + mark + "', 'w')");
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {proto() + global("os", "system") + shell + "\x85R.", {"GLOBAL at byte 2", "os.system"}},
      {proto() + global("posix", "system") + shell + "\x85R.", {"posix.system"}},
      {proto() + global("nt", "system") + shell + "\x85R.", {"nt.system"}},
      {proto() + global("subprocess", "Popen") + shell + "\x85R.", {"subprocess.Popen"}},
      {proto() + global("builtins", "eval") + python + "\x85R.", {"builtins.eval"}},
      {proto() + global("__builtin__", "exec") + python + "\x85R.", {"__builtin__.exec"}},
      {proto() + global("builtins", "getattr") + ")R.", {"builtins.getattr"}},
      {proto() + global("torch.hub", "load") + ")R.", {"torch.hub.load"}},
      {proto() + global("torch.storage", "_load_from_bytes") + ")R.", {"_load_from_bytes"}},
      {proto() + global("torch.serialization", "load") + ")R.", {"torch.serialization.load"}},
      {proto() + global("torch.nn.modules.linear", "Linear") + ")\x81.",
       {"torch.nn.modules.linear.Linear", "save model.state_dict() instead"}},
      {proto(4) + text("os") + text("system") + "\x93" + shell + "\x85R.",
       {"STACK_GLOBAL at byte", "os.system"}},
      {proto(4) + text("collections") + text("OrderedDict.__init__") + "\x93.",
       {"collections.OrderedDict.__init__"}},
      {proto(4) + text("torch") + text("_utils.os.system") + "\x93.", {"torch._utils.os.system"}},
      {proto(4) + number(1) + text("x") + "\x93.", {"STACK_GLOBAL", "the number 1"}},
      {proto() + "(" + shell + "ios\nsystem\n.", {"INST at byte", "no opcode that weights need"}},
      {proto() + "(cos\nsystem\n" + shell + "o.", {"GLOBAL", "os.system"}},
      {proto() + "(" + shell + "o.", {"OBJ at byte"}},
      {proto() + "\x82\x01.", {"EXT1 at byte 2"}},
      {proto(4) + global("collections", "OrderedDict") + ")}\x92.", {"NEWOBJ_EX"}},
      {proto() + "Pos.system\n.", {"PERSID"}},
      {proto() + text("os.system") + shell + "\x85R.", {"REDUCE", "the string 'os.system'"}},
      {proto() + global("torch", "float32") + ")R.", {"torch.float32 is no constructor"}},
      {proto() + global("torch", "FloatStorage") + ")R.", {"is no constructor"}},
      {proto() + global("collections", "OrderedDict") + "}b.", {"BUILD", "the name collections"}},
      {proto() + "]}b.", {"BUILD", "a list"}},
      {proto() + global("collections", "OrderedDict") + shell + "\x85R.", {"with 1 arguments"}},
  };
  for (const auto& [pickle, parts] : cases) expect_refused(pickle, parts);
  EXPECT_FALSE(std::filesystem::exists(mark));
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

TEST(Pickle, ObjectsBesideTheWeightsAreDroppedUnread) {
  const std::string pickle = proto() + "}(" + text("args") + global("argparse", "Namespace") +
                             ")\x81}" + text("lr") + "K\x01sb" + text("hooks") +
                             global("pytorch_lightning.callbacks", "Any") + ")\x81" + text("a") +
                             "K\x01s" +
                             "K\x02"
                             "a" +
                             text("n") + global("numpy", "dtype") + text("f8") + "\x85R" + "u.";
  const Pickle got = parse_pickle(bytes(pickle));
  for (const char* key : {"args", "hooks", "n"}) {
    const PickleValue* value = got.find(got.top(), key);
    ASSERT_NE(value, nullptr) << key;
    EXPECT_EQ(value->kind, Kind::kOpaque) << key;
    EXPECT_TRUE(value->items.empty()) << key;
  }
  EXPECT_EQ(describe(*got.find(got.top(), "args")), "an object of argparse.Namespace");
}

TEST(Pickle, MalformedTensorsAreRefused) {
  const std::string good = storage("FloatStorage", "0", 4);
  EXPECT_EQ(refusal(state(tensor(good, 0, {2, 2}, {2, 1}))), "accepted");
  expect_refused(state(tensor(good, -1, {2}, {1})), {"offset -1"});
  expect_refused(state(tensor(good, 0, {-2}, {1})), {"the number -2", "at least 0"});
  expect_refused(state(tensor(good, 0, {2}, {-1})), {"the number -1", "at least 0"});
  expect_refused(state(tensor(good, 0, {2, 2}, {1})), {"2 extents and 1 strides"});
  expect_refused(state(tensor(storage("FloatStorage", "0", -1), 0, {2}, {1})), {"-1 elements"});
  expect_refused(state(tensor(number(3), 0, {2}, {1})), {"argument 0 is the number 3"});
  expect_refused(state(tensor(storage("QInt8Storage", "0", 4), 0, {2}, {1})), {"QInt8Storage"});
  expect_refused(proto() + "(" + text("module") + global("torch", "FloatStorage") + text("0") +
                     text("cpu") + number(1) + "tQ.",
                 {"BINPERSID", "\"storage\""});
  expect_refused(proto() + text("0") + "Q.", {"BINPERSID", "five values"});
  expect_refused(proto() + global("torch._utils", "_rebuild_parameter") + "K\x01\x88}\x87R.",
                 {"argument 0 is the number 1", "a tensor"});
  expect_refused(proto() + global("torch", "Size") + tuple({2, -3}) + "\x85R.", {"-3"});
}

// A view that negates has its values in the storage with the other sign.
TEST(Pickle, TensorsThatAreNotAsStoredAreRefused) {
  const std::string four = storage("FloatStorage", "0", 4);
  const auto with = [&](const std::string& metadata) {
    return state(tensor(four, 0, {4}, {1}, metadata));
  };
  EXPECT_EQ(refusal(with("N")), "accepted");
  EXPECT_EQ(refusal(with("}")), "accepted");
  expect_refused(with("}" + text("neg") + "\x88s"), {"the bit neg", ".resolve_neg()"});
  expect_refused(with("}" + text("conj") + "\x88s"), {"the bit conj", ".resolve_conj()"});
  expect_refused(with("}K\x01\x88s"), {"the bit the number 1"});
  expect_refused(with("K\x01"), {"argument 6 is the number 1"});
}

TEST(Pickle, ShapesOfManyAxesAreRefused) {
  std::string many = proto() + "(" + global("torch", "Size") + "q" + le(0, 1) + "(";
  for (int i = 0; i < 100; ++i) many += "K\x01";
  expect_refused(many + "t\x85Rt.", {"REDUCE", "100 axes, at most 64"});
}

TEST(Pickle, BadStructureIsRefusedWithItsPlace) {
  const std::pair<std::string, std::vector<std::string>> cases[] = {
      {"", {"ends at byte 0"}},
      {proto(), {"ends at byte 2", "STOP"}},
      {proto() + ".", {"STOP at byte 2", "0 values"}},
      {proto() + "NN.", {"2 values"}},
      {proto() + "(N.", {"1 marks"}},
      {proto() + "t.", {"TUPLE at byte 2", "no mark"}},
      {proto() + "(\x85.", {"TUPLE1", "stack is empty"}},
      {proto() + "NK\x01s.", {"SETITEM", "stack is empty"}},
      {proto() + "}(Nu.", {"SETITEMS", "a key without a value"}},
      {proto() + "}]Ns.", {"SETITEM", "a key is a list"}},
      {proto() + "NNa.", {"APPEND", "None to add to"}},
      {proto() + "h\x05.", {"BINGET", "no entry 5"}},
      {proto() + "q\x01.", {"BINPUT", "stack is empty"}},
      {proto() + "\xff.", {"number 255 at byte 2"}},
      {proto() + "2.", {"DUP"}},
      {proto(6) + "N.", {"PROTO", "protocol 6"}},
      {proto(0) + "N.", {"PROTO", "protocol 0"}},
      {proto() + "I1\n.", {"INT"}},
      {proto() + "X\xff\xff\xff\xff"
                 "a.",
       {"a string of 4294967295 bytes"}},
      {proto(4) + "\x8d" + le(~0ull, 8) + "a.", {"BINUNICODE8", "18446744073709551615"}},
      {proto(4) + "\x8e" + le(1000, 8) + "a.", {"BINBYTES8", "only 2 are left"}},
      {proto(4) + "\x95" + le(~0ull, 8) + "N.", {"FRAME"}},
      {proto() + "\x8b\xff\xff\xff\x7f"
                 "a.",
       {"LONG4"}},
      {proto() + "c" + std::string(300, 'a') + "\nb\n.", {"GLOBAL", "256 bytes"}},
      {proto() + "cabc", {"GLOBAL", "left"}},
  };
  for (const auto& [pickle, parts] : cases) expect_refused(pickle, parts);
}

TEST(Pickle, LimitsHold) {
  const PickleLimits few{
      .values = 100, .stack = 50, .memo = 10, .depth = 5, .references = 60, .text = 20};
  const auto many = [](const std::string& what, int count) {
    std::string out;
    for (int i = 0; i < count; ++i) out += what;
    return out;
  };
  expect_refused(proto() + "(" + many("(Nt", 80) + "t.", {"more than 100 values"}, few);
  expect_refused(proto() + "Nq" + le(0, 1) + many("h" + le(0, 1), 80), {"50 values on the stack"},
                 few);
  std::string puts = proto() + "N";
  for (unsigned i = 0; i < 20; ++i) puts += "r" + le(i * 1000003u, 4);
  expect_refused(puts, {"LONG_BINPUT", "10 entries in the memo"}, few);
  expect_refused(proto() + many("(", 20), {"MARK", "5 levels"}, few);
  expect_refused(proto() + "]q" + le(0, 1) + many("(" + many("h" + le(0, 1), 20) + "e", 5) + ".",
                 {"60 items"}, few);
  expect_refused(proto() + text(std::string(21, 'a')) + ".", {"a string of 21 bytes"}, few);
}

// Each level lists the one below ten times: as text it would be 10^60 values long.
TEST(Pickle, LaughsStayAsSmallAsTheFile) {
  std::string pickle = proto() + "]q" + le(0, 1);
  for (unsigned level = 1; level < 60; ++level) {
    pickle += "](";
    for (int i = 0; i < 10; ++i) pickle += "h" + le(level - 1, 1);
    pickle += "eq" + le(level, 1);
  }
  std::string closed = proto() + "(" + pickle.substr(2) + "t.";
  const Pickle got = parse_pickle(bytes(closed));
  EXPECT_LT(got.values.size(), 100u);
  // And one that contains itself.
  const Pickle self = parse_pickle(bytes(proto() + "]q" + le(0, 1) + "h" + le(0, 1) + "a."));
  EXPECT_EQ(self.top().items, std::vector<PickleRef>{self.root});
  EXPECT_EQ(describe(self.top()), "a list of 1");
}

TEST(Pickle, DeepNestingNeedsNoStack) {
  std::string pickle = proto();
  for (int i = 0; i < 100000; ++i) pickle += "]";
  for (int i = 1; i < 100000; ++i) pickle += "a";
  EXPECT_EQ(parse_pickle(bytes(pickle + ".")).values.size(), 100000u);
}

TEST(Pickle, TextForMessagesIsCutAndPrintable) {
  EXPECT_EQ(shown_text("a\n\x1b[31mb\xff"), "a??[31mb?");
  EXPECT_EQ(shown_text(std::string(90, 'x')), std::string(80, 'x') + "...");
}

}  // namespace
}  // namespace onpa::io
