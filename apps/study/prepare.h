// From a table of tracks, as the public ones come, and a folder of audio to a prepared data set.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "apps/commands/commands.h"
#include "data/dataset.h"
#include "data/table.h"

namespace onpa::apps {

/// Feature columns of a preset, or the names in a comma-separated list.
///   "paper10"   the study's ten: the eight that it prints, and acousticness and speechiness, the
///               two that are left when key, duration and time signature are taken from the
///               thirteen numbers that the service publishes
///   "printed8"  danceability, energy, instrumentalness, liveness, loudness, mode, tempo, valence
/// Throws Error (kConfig) for an empty name in a list or one that is there twice.
std::vector<std::string> feature_names(const std::string& preset);

/// Header spellings of a canonical column: "id", "genre", "popularity", "name", "artists" or a
/// feature; the canonical name itself comes first.
std::vector<std::string> column_aliases(const std::string& canonical);

/// Why a cell is not a number.
enum class CellProblem { kNone, kMissing, kNotFinite, kNotANumber };

/// The number in a cell of the canonical column: plain numbers, True/False, mode as Major/Minor,
/// key as a note name, time_signature as "4/4". "", "NA", "nan", "null" and "none" are missing.
CellProblem parse_feature(const std::string& canonical, std::string_view cell, double& value);

/// Builds the data set in memory: finds the columns, reads the features, drops rows with a value
/// that is missing, not a finite number or out of range, joins the rows of one id (except for the
/// split "rows"), matches audio by id, filters by popularity and genre, splits and undersamples.
/// DataSet::card tells the counts at each step, and why rows were dropped (docs/data.md). A table
/// without ids gets ids made from name and features, if no audio has to be matched.
/// Throws Error: kInputMissing, kConfig, kBadData naming every missing column or two columns for
/// one role, or when no track is left or a split is empty.
data::DataSet prepare_data(const PrepareArgs& args);

}  // namespace onpa::apps
