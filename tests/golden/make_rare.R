#!/usr/bin/env Rscript
# Writes rare.json: relevance and SMOGN by the R package UBL.
#
#   Rscript tests/golden/make_rare.R UBL     (from the repository root)
#
# UBL is a folder with the package's sources (github.com/paobranco/UBL, version 0.0.7): its R files
# are sourced and its Fortran compiled into a temporary folder, as the package itself needs others
# that have no part in this.
ubl <- normalizePath(commandArgs(trailingOnly = TRUE)[1])
build <- tempfile()
dir.create(build)
file.copy(file.path(ubl, "src", c("phi.f90", "neighbours.f90")), build)
shared <- file.path(build, "ubl.so")
status <- system2("gfortran", c("-O2", "-shared", "-fPIC", "-J", build, "-o", shared,
                                file.path(build, c("phi.f90", "neighbours.f90"))))
stopifnot(status == 0)
dyn.load(shared)
for (name in c("phiFunc", "CallFPhi", "Neighbours", "Distances", "smognRegress")) {
  source(file.path(ubl, "R", paste0(name, ".R")))
}

number <- function(v) ifelse(is.na(v), "null", sprintf("%.17g", v))
array <- function(v) paste0("[", paste(number(as.vector(v)), collapse = ","), "]")
object <- function(...) {
  parts <- list(...)
  paste0("{", paste0('"', names(parts), '":', unlist(parts), collapse = ","), "}")
}
list_of <- function(items) paste0("[", paste(unlist(items), collapse = ",\n"), "]")

relevance_case <- function(y, at) {
  control <- phi.control(y, method = "extremes")
  object(y = array(y), at = array(at), phi = array(phi(at, control)))
}
set.seed(4)
normal <- rnorm(301)
popularity <- round(pmin(100, rgamma(400, 1.6, scale = 14)))
cases <- list(
  relevance_case(c(normal, -4.5, 5, 6.25), seq(-6, 7, length.out = 53)),
  relevance_case(popularity, 0:100),
  relevance_case(-popularity, -(100:0)),
  relevance_case(runif(50), seq(-0.5, 1.5, length.out = 21)),
  relevance_case(c(3, 1, 2, 9, 2.5, 2.25), seq(0, 10, by = 0.25)),
  relevance_case(c(0, 0, 0, 0, 1, 1, 2, 9), seq(-1, 10, by = 0.5)))

# A table that both sides read exactly: multiples of 1/1024.
exact <- function(v) round(v * 1024) / 1024
set.seed(9)
n <- 420
x <- matrix(exact(rnorm(n * 3)), n)
x[, 2] <- exact(0.5 * x[, 1] + 0.5 * x[, 2])
y <- exact(0.2 * x[, 1] + 0.1 * x[, 3]^2 + 0.25 * rt(n, 4))
table <- data.frame(a = x[, 1], b = x[, 2], c = x[, 3], y = y)
relevance <- phi(sort(y), phi.control(y))
rare <- relevance >= 0.5
bump <- cumsum(c(1, diff(rare) != 0))
members <- lapply(split(order(y), bump), identity)
sizes <- lengths(members)
k <- 5

# What may be interpolated: for each rare row its neighbours below half the median distance.
pairs_of <- function(rows) {
  part <- table[rows, ]
  near <- neighbours(4, part, "Euclidean", 2, k)
  far <- distances(4, part, "Euclidean", 2)
  half <- apply(far, 1, function(d) summary(d)[3] / 2)
  ok <- t(sapply(seq_along(rows), function(i) far[i, near[i, ]] < half[i]))
  list(near = matrix(rows[near] - 1, nrow(near)), ok = ok * 1)
}

statistics <- function(rows) {
  unlist(lapply(rows, function(v) c(mean(v), sd(v), quantile(v, c(0.1, 0.5, 0.9)))))
}
runs <- 300
set.seed(21)
collected <- vector("list", length(members))
counts <- NULL
for (run in seq_len(runs)) {
  out <- SMOGNRegress(y ~ ., table, thr.rel = 0.5, C.perc = "balance", k = k)
  place <- 0
  row <- NULL
  for (i in seq_along(members)) {
    share <- round(n / length(members)) / sizes[i]
    real <- if (share < 1) as.integer(share * sizes[i]) else sizes[i]
    made <- 0
    if (share > 1) {
      whole <- as.integer(share - 1)
      made <- whole * sizes[i] + as.integer(sizes[i] * (share - 1 - whole))
      collected[[i]] <- rbind(collected[[i]], statistics(out[place + seq_len(made), ]))
    }
    place <- place + made + real
    row <- c(row, real, made)
  }
  stopifnot(place == nrow(out))
  counts <- row
}
bumps <- lapply(seq_along(members), function(i) {
  made <- counts[2 * i]
  base <- list(members = array(members[[i]] - 1), rare = if (rare[sum(sizes[seq_len(i)])]) "true" else "false",
               kept = number(counts[2 * i - 1]), made = number(made))
  if (made > 0) {
    pairs <- pairs_of(members[[i]])
    base <- c(base, list(near = array(t(pairs$near)), ok = array(t(pairs$ok)),
                         statistic = array(colMeans(collected[[i]])),
                         spread = array(apply(collected[[i]], 2, sd))))
  }
  do.call(object, base)
})
text <- object(
  made_with = object(R = paste0('"', getRversion(), '"'), UBL = '"0.0.7"'),
  relevance = list_of(cases),
  smogn = object(columns = "3", neighbours = number(k), runs = number(runs), x = array(t(x)),
                 y = array(y), bumps = list_of(bumps)))
writeLines(text, file.path("tests", "golden", "rare.json"))
