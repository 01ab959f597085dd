// What the study says, in words made from its numbers.
#pragma once

#include <string>
#include <vector>

#include "apps/report/report_study.h"

namespace onpa::apps::report {

/// A genre whose order of the two models is not that of all data.
struct Flip {
  std::string genre;
  Difference difference;  // dense - passt, as in the study
};

/// Genres with both models, and those of them that flip: larger differences first. None flips
/// where all data have no difference or one of exactly 0.
std::vector<const Scope*> compared_genres(const Study& study);
std::vector<Flip> flips(const Study& study);

/// The answer in two sentences: which input is better and whether the interval settles it; how far
/// both are from the constant and from the lowest possible error, and where the order flips.
std::vector<std::string> answer(const Study& study);

/// What a reader has to know before the answer is believed: little data, missing parts. May be
/// empty.
std::vector<std::string> cautions(const Study& study);

/// What undersampling and other variants changed, a sentence or two each.
std::vector<std::string> changes(const Study& study);

}  // namespace onpa::apps::report
