// The kernel of one processor variant. This file is compiled once per variant, named by SEGZOO_VARIANT.
//
// A unit of work belongs to one thread. It takes its strips one by one and sweeps down each: logit rows are
// resampled along the row once, and stay in the innermost caches for the few pixel rows that are made of them.
#include "average.h"
#include "best.h"

namespace {

using segzoo::Part;

long rows_size(const Problem& problem) {
  long size = 0;
  for (long v = 0; v < problem.view_count; ++v) size += Rows::size(problem.views[v], problem.classes);
  return size;
}

long most_sources(const Problem& problem) {
  long most = 0;
  for (long v = 0; v < problem.view_count; ++v) {
    most = problem.views[v].rows.most > most ? problem.views[v].rows.most : most;
  }
  return most;
}

long group_values(const Problem& problem) { return problem.classes * segzoo::kAveragedRows * kStrip; }

long scratch(const Problem& problem) {
  const long averaged = problem.view_count > 1 ? 2 * group_values(problem) : 0;
  return rows_size(problem) + averaged + 2 * most_sources(problem) + kStrip;
}

template <typename Label>
void write(const Problem& problem, long row, long strip, const int* best) {
  const long first = strip * kStrip, left = problem.width - first;
  Label* target = static_cast<Label*>(problem.labels) + row * problem.width + first;
  const long count = left < kStrip ? left : kStrip;
  for (long lane = 0; lane < count; ++lane) target[lane] = static_cast<Label>(best[lane]);
}

void write_group(const Problem& problem, long group, long strip, const int* best) {
  for (long r = 0; r < problem.groups[group].rows; ++r) {
    const auto put = problem.wide ? write<int> : write<unsigned char>;
    put(problem, problem.groups[group].first + r, strip, best + r * kStrip);
  }
}

void label_strip(const Problem& problem, const Part& part, long strip, float* memory) {
  alignas(64) int best[segzoo::kGroupRows * kStrip];
  Rows rows(problem, problem.views[0], strip, memory);
  for (long group = part.first_group; group < part.last_group; ++group) {
    rows.bring(group);
    best_of_group(problem, rows, problem.views[0], group, best);
    write_group(problem, group, strip, best);
  }
}

// Views take turns within a group; the rows of each are kept between groups by the numbers in its own memory.
void average_strip(const Problem& problem, const Part& part, long strip, float* memory) {
  alignas(64) int best[segzoo::kAveragedRows * kStrip];
  float* total = memory;
  float* powers = total + group_values(problem);
  float* slots = powers + group_values(problem);
  const float** pointers = reinterpret_cast<const float**>(slots + rows_size(problem));
  for (long group = part.first_group; group < part.last_group; ++group) {
    float* own = slots;
    for (long v = 0; v < problem.view_count; ++v) {
      const View& view = problem.views[v];
      Rows rows(problem, view, strip, own, group == part.first_group);
      rows.bring(group);
      add_probabilities(Averaged(rows, view, group, problem.classes, pointers), v == 0, powers, total);
      own += Rows::size(view, problem.classes);
    }
    best_of_sums(total, problem.classes, best);
    write_group(problem, group, strip, best);
  }
}

void label(const Problem& problem, const Part& part, float* memory) {
  for (long strip = part.first_strip; strip < part.last_strip; ++strip) {
    if (problem.view_count == 1) label_strip(problem, part, strip, memory);
    else average_strip(problem, part, strip, memory);
  }
}

}  // namespace

const segzoo::Variant& segzoo::variant(SEGZOO_VARIANT) {
  static constexpr segzoo::Variant variant = {SEGZOO_VARIANT::name, kStrip, scratch, label};
  return variant;
}
