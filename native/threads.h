// How the work of a layer is shared between threads, and in what order its steps run.
#pragma once

#include <atomic>
#include <thread>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "kernels.h"
#include "simd.h"

namespace elman::ELMAN_LEVEL {

// One thread's part: these rows, these panels of hidden units.
struct Share {
  int64_t row, row_end, panel, panel_end;
};

class Barrier {
 public:
  explicit Barrier(int count) : count_(count) {}

  void wait() {
    if (count_ == 1) return;
    const int turn = turn_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == count_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins)
      if (spins > 4096) std::this_thread::yield();
  }

 private:
  const int count_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> turn_{0};
};

// The steps in the order the recurrence visits them. Step s handles `count` rows that start at row `at` of the data.
class Chain {
 public:
  struct Step {
    int64_t at = 0, count = 0;
  };

  Chain(const Shape& shape, bool reverse) : steps_(new Step[shape.steps + 2]) {
    int64_t at = 0;
    for (int64_t t = 0; t < shape.steps; ++t) {
      const int64_t count = shape.batch_sizes ? shape.batch_sizes[t] : shape.batch;
      steps_[1 + (reverse ? shape.steps - 1 - t : t)] = {at, count};
      at += count;
    }
    rows_ = at;
  }

  Chain(const Chain&) = delete;
  ~Chain() { delete[] steps_; }

  int64_t rows() const { return rows_; }
  const Step& operator[](int64_t s) const { return steps_[s + 1]; }  // empty before the first and after the last

 private:
  Step* steps_;  // no std::vector: its code would be shared between CPU levels at link time
  int64_t rows_;
};

// Below this many multiply-adds, waking a second thread (or meeting it once a step) costs more than it saves.
constexpr int64_t kWorthThreads = 400'000;
constexpr int64_t kWorthBarrier = 60'000;
constexpr int64_t kPointwise = 8;  // what a gate's equations cost, in multiply-adds

inline int useful_threads(const Shape& shape, int64_t rows, int64_t row_work) {
#ifdef _OPENMP
  return shape.threads > 1 && rows * row_work >= kWorthThreads ? shape.threads : 1;
#else
  return 1;
#endif
}

// Calls body(row, end) in each thread for its part of the rows. work: multiply-adds in all.
template <class Body>
void share_rows(int64_t rows, int threads, int64_t work, const Body& body) {
#ifdef _OPENMP
  if (threads > 1 && work >= kWorthThreads && rows >= threads) {
#pragma omp parallel num_threads(threads)
    body(rows * omp_get_thread_num() / omp_get_num_threads(),
         rows * (omp_get_thread_num() + 1) / omp_get_num_threads());
    return;
  }
#endif
  body(0, rows);
}

// Rows are the better split: threads then never meet. With few rows every thread would read all the weights for them,
// so hidden units are split instead, at the price of a barrier a step.
inline bool split_units(const Shape& shape, int64_t rows, int threads, int64_t row_work) {
  return rows < 4 * threads * shape.steps && rows * row_work >= kWorthBarrier * shape.steps;
}

// The row at which thread `id` of `count` starts, so that all have the same number of steps in all.
inline int64_t first_row(const Shape& shape, int64_t rows, int id, int count) {
  if (!shape.batch_sizes) return shape.batch * id / count;
  const int64_t target = rows * id / count;
  int64_t row = 0, before = 0;
  for (int64_t t = shape.steps; before < target && row < shape.batch; ++row) {
    while (t > 0 && shape.batch_sizes[t - 1] <= row) --t;
    before += t;
  }
  return row;
}

// Calls body(Share, Barrier&) in each thread. row_work: multiply-adds of one row's step.
template <class Body>
void share_out(const Shape& shape, int64_t rows, int64_t panels, int64_t row_work, const Body& body) {
  const int threads = useful_threads(shape, rows, row_work);
  if (threads == 1) {
    Barrier alone(1);
    body(Share{0, shape.batch, 0, panels}, alone);
    return;
  }
#ifdef _OPENMP
  const bool units = split_units(shape, rows, threads, row_work);
  Barrier* barrier = nullptr;
#pragma omp parallel num_threads(threads)
  {
    const int id = omp_get_thread_num(), count = omp_get_num_threads();
#pragma omp single
    barrier = new Barrier(units ? count : 1);
    if (units)
      body(Share{0, shape.batch, panels * id / count, panels * (id + 1) / count}, *barrier);
    else
      body(Share{first_row(shape, rows, id, count), first_row(shape, rows, id + 1, count), 0, panels}, *barrier);
  }
  delete barrier;
#endif
}

// Calls body(Share) in each thread, which never meet: they share the rows, or, with few rows and units that are apart
// (no unit sees another), the units, in panels of so many.
template <class Body>
void share_rows_or_units(const Shape& shape, int64_t rows, int64_t row_work, bool apart, int64_t panel,
                         const Body& body) {
  const int threads = useful_threads(shape, rows, row_work);
  const int64_t panels = (shape.hidden + panel - 1) / panel;
  const bool units = apart && shape.batch < 4 * threads && panels >= threads;
  if (threads == 1 || (!units && shape.batch < threads)) return body(Share{0, shape.batch, 0, panels});
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  {
    const int id = omp_get_thread_num(), count = omp_get_num_threads();
    body(units ? Share{0, shape.batch, panels * id / count, panels * (id + 1) / count}
               : Share{first_row(shape, rows, id, count), first_row(shape, rows, id + 1, count), 0, panels});
  }
#endif
}

}  // namespace elman::ELMAN_LEVEL
