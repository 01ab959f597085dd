#include "apps/training/rank_notes.h"

#include <nlohmann/json.hpp>

namespace onpa::apps {
namespace {

using nlohmann::json;

constexpr std::size_t kLongestMessage = 1000;  // of a failure, so that its note is whole

// Bytes that are no UTF-8 (file names) become a mark.
std::string text_of(const json& note) {
  return note.dump(-1, ' ', false, json::error_handler_t::replace);
}

}  // namespace

void RankNotes::send_all(const std::string& text) {
  for (int rank = 0; rank < comm_.size(); ++rank) {
    if (rank != comm_.rank()) comm_.send_note(rank, text);
  }
}

void RankNotes::ask() {
  {
    const std::lock_guard lock(mutex_);
    places_.clear();
  }
  send_all(text_of(json::object({{"is", "question"}})));
}

void RankNotes::tell(const RankFailure& failure) {
  send_all(text_of(json::object({{"is", "failure"},
                                 {"code", failure.code},
                                 {"own", failure.own},
                                 {"message", failure.message.substr(0, kLongestMessage)}})));
}

void RankNotes::read(const RankPlace& mine) {
  const std::lock_guard lock(mutex_);
  for (const dist::Note& note : comm_.take_notes()) {
    const json said = json::parse(note.text, nullptr, false);
    if (!said.is_object()) continue;
    const std::string is = said.value("is", "");
    if (is == "question") {
      comm_.send_note(note.from, text_of(json::object({{"is", "place"},
                                                       {"calls", mine.calls},
                                                       {"last_call", mine.last_call},
                                                       {"step", mine.step},
                                                       {"phase", mine.phase}})));
    } else if (is == "place") {
      places_[note.from] = {said.value("calls", std::uint64_t{0}), said.value("last_call", ""),
                            said.value("step", std::int64_t{0}), said.value("phase", "")};
    } else if (is == "failure") {
      failures_[note.from] = {said.value("code", 0), said.value("own", true),
                              said.value("message", "")};
    }
  }
}

std::map<int, RankPlace> RankNotes::places() const {
  const std::lock_guard lock(mutex_);
  return places_;
}

std::map<int, RankFailure> RankNotes::failures() const {
  const std::lock_guard lock(mutex_);
  return failures_;
}

}  // namespace onpa::apps
