"""Sixteen numbers at a time, for the projector's compiled loops: what numba's own vectoriser leaves scalar.

Where numba compiles for AVX-512, float32 is looked up among 32 neighbours by one permutation; LLVM cannot do without
that instruction and would end the process, so everything else takes the plain loops that stand beside.
"""

import math
from typing import no_type_check  # the tests' checker must not wrap what numba compiles

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload
from numba.np.arrayobj import make_array

LANES = 16
REACH = 30.0  # the first and the last lane's look-up may lie this far apart
TABLE = 32  # the neighbours of one look-up
ROUNDED = 0.05  # ours: rows that float32 may round a place away
NEAR_ROWS = 9  # may meet a voxel in `add_gathered`: 2 * REACH / 15 on either side, and one
INT, WORD = ir.IntType(32), ir.IntType(64)
INTS = ir.VectorType(INT, LANES)
FAST = ("fast",)


def permutes(dtype) -> bool:
    """True where look-ups are permutations: float32, and numba's target (it may be told another) has AVX-512."""
    triple, _, features = cpu_target.target_context.codegen().magic_tuple()
    return dtype == types.float32 and triple.startswith("x86_64") and "+avx512f" in features.split(",")


# ---- what the loops call; each in plain Python, which numba compiles where it does not permute


@no_type_check
def add_interpolated(sums, at, line, start, slope, top):
    """sums[at + i] += `line` interpolated at start + i * slope, which is first clamped to 0 ... top; 16 of them.

    `slope` is at most REACH / 15 either way, and `line` has 32 further values behind `top`.
    """
    f = line.dtype.type
    for i in range(LANES):
        z = min(max(start + f(i) * slope, f(0)), top)
        k = types.int32(z)
        sums[at + i] += line[k] + (z - f(k)) * (line[k + 1] - line[k])


@no_type_check
def gather_rows(line, voxel, pixels, padding, rows, start, slope, inverse, candidates):
    """line[voxel + i] = sum over rows r of max(0, 1 - |start + r * slope - voxel - i|) * pixels[padding + r]; 16.

    `candidates` is how many rows can be that near; `pixels` has as many zeros before its rows and 64 more behind.
    |1 / slope| is at most twice REACH / 15.
    """
    f = line.dtype.type
    for i in range(LANES):
        away = f(voxel + i) - start
        first = f(math.floor(away * inverse - abs(inverse))) + f(1)
        distance = first * slope - away
        near = padding + types.int32(min(max(first, f(-candidates)), f(rows)))
        total = f(0)
        for n in range(candidates):
            total += max(f(0), f(1) - abs(distance + f(n) * slope)) * pixels[near + n]
        line[voxel + i] = total


@overload(add_interpolated, inline="always")
def _(sums, at, line, start, slope, top):
    if not permutes(line.dtype):
        return add_interpolated
    return lambda sums, at, line, start, slope, top: _add_interpolated(sums, at, line, start, slope, top)


@overload(gather_rows, inline="always")
def _(line, voxel, pixels, padding, rows, start, slope, inverse, candidates):
    if not permutes(line.dtype):
        return gather_rows

    @no_type_check
    def permuted(line, voxel, pixels, padding, rows, start, slope, inverse, candidates):
        if abs(inverse) * (LANES - 1) <= REACH:
            _gather_rows(line, voxel, pixels, padding, rows, start, slope, inverse, candidates)
        else:
            _gather_many_rows(line, voxel, pixels, padding, rows, start, slope, inverse, candidates)

    return permuted


@no_type_check
def permutes_lines(lines):
    """Whether `add_bilinear` may be called for such an array; a constant to the compiler."""


@no_type_check
def add_bilinear(sums, at, rays, plane, number, lines, offset, stride, first, count, low, size):
    """Add to sums[at ...] what 16 rays find in slice `number`, on `count` lines from number `first`.

    `rays` holds, `plane` apart, slope and start of the rays' place across the lines, then along them; `offset` is
    where the first line begins, `stride` leads to the next. Lines are `size` >= 32 long; rays that cross them are
    looked for among the 32 values from `low` on. Only where `permutes_lines`: it has no plain loop.
    """


@overload(permutes_lines, inline="always")
def _(lines):
    return (lambda lines: True) if permutes(lines.dtype) else (lambda lines: False)


@overload(add_bilinear, inline="always")
def _(sums, at, rays, plane, number, lines, offset, stride, first, count, low, size):
    if not permutes(lines.dtype):
        return add_bilinear

    @no_type_check
    def permuted(sums, at, rays, plane, number, lines, offset, stride, first, count, low, size):
        _add_bilinear(sums, at, rays, plane, number, lines, offset, stride, first, count, low, size)

    return permuted


@no_type_check
def add_slices(sums, at, rays, plane, lines, offset, stride_a, stride, first, last, span):
    """Add to sums[at ...] what 16 rays find in the slices `first` to `last`, all of them well inside the volume.

    `rays` as for `add_bilinear`; slice 0 begins at `offset`, slices lie `stride_a` apart, their lines `stride`. In no
    slice do the rays part by more than `span` lines, 1 to 3, nor by REACH - 1 values on a line. `lines`
    has TABLE further values behind its last. Only where `permutes_lines`.
    """


@overload(add_slices, inline="always")
def _(sums, at, rays, plane, lines, offset, stride_a, stride, first, last, span):
    if not permutes(lines.dtype):
        return add_slices

    @no_type_check
    def permuted(sums, at, rays, plane, lines, offset, stride_a, stride, first, last, span):
        if span == 1:
            _add_slices_of_3(sums, at, rays, plane, lines, offset, stride_a, stride, first, last)
        elif span == 2:
            _add_slices_of_4(sums, at, rays, plane, lines, offset, stride_a, stride, first, last)
        else:
            _add_slices_of_5(sums, at, rays, plane, lines, offset, stride_a, stride, first, last)

    return permuted


@no_type_check
def add_gathered(lines, offset, stride, voxel, nominal, number, many, pixels, plane, padding, rows, a, b, c, reach):
    """Add to 16 voxels from `voxel` on, but those below `nominal`, on `many` lines from number `number` on, what rays
    give.

    Voxel k of line i gets the sum over rows r of max(0, 1 - |x_r - k|) * max(0, 1 - |y_r - i|) * g_r. `offset` is
    where the first of the lines begins, `stride` leads to the next. `pixels` holds x, y and g, `plane` apart, with
    `padding` values before row 0 and g 0 there and beyond the rows. Row r_k = (a + b k) / (1 + c k) is where x is
    k - 1 or k + 1, whichever comes first; at most `reach` rows, and `reach` is at most 2 * REACH / 15, lie between
    that and k. Only where `permutes_lines`.
    """


@overload(add_gathered, inline="always")
def _(lines, offset, stride, voxel, nominal, number, many, pixels, plane, padding, rows, a, b, c, reach):
    if not permutes(lines.dtype):
        return add_gathered

    @no_type_check
    def permuted(lines, offset, stride, voxel, nominal, number, many, pixels, plane, padding, rows, a, b, c, reach):
        count = types.int32(2 * reach + 2 * ROUNDED) + types.int32(1)
        if reach * (LANES - 1) <= REACH:
            _gather_32(
                lines, offset, stride, voxel, nominal, number, many, pixels, plane, padding, rows, a, b, c, count
            )
        else:
            _gather_64(
                lines, offset, stride, voxel, nominal, number, many, pixels, plane, padding, rows, a, b, c, count
            )

    return permuted


# ---- the same in LLVM's vector code


class Lanes:
    """Vector instructions on one element type, spelled short."""

    def __init__(self, builder, numba_type=types.float32):
        single = numba_type == types.float32
        self.builder, self.scalar = builder, ir.FloatType() if single else ir.DoubleType()
        self.vector, self.bytes = ir.VectorType(self.scalar, LANES), 4 if single else 8

    def splat(self, value, vector=None):
        nothing = ir.Constant(vector or self.vector, ir.Undefined)
        return self.builder.shuffle_vector(
            self.builder.insert_element(nothing, value, INT(0)), nothing, ir.Constant(INTS, [0] * LANES)
        )

    def number(self, value):
        return ir.Constant(self.vector, [float(value)] * LANES)

    def steps(self):
        return ir.Constant(self.vector, [float(i) for i in range(LANES)])

    def add(self, a, b):
        return self.builder.fadd(a, b, flags=FAST)

    def minus(self, a, b):
        return self.builder.fsub(a, b, flags=FAST)

    def times(self, a, b):
        return self.builder.fmul(a, b, flags=FAST)

    def clamp(self, value, low, high):
        value = self.builder.select(self.builder.fcmp_ordered(">", value, low), value, low)
        return self.builder.select(self.builder.fcmp_ordered("<", value, high), value, high)

    def hat(self, distance):
        """max(0, 1 - |distance|)."""
        weight = self.minus(self.number(1), self.call("llvm.fabs.v16f32", distance))
        return self.builder.select(self.builder.fcmp_ordered(">", weight, self.number(0)), weight, self.number(0))

    def call(self, name, *arguments):
        kind = ir.FunctionType(self.vector, [a.type for a in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)

    def ends(self, integers):
        """The smaller of the first and the last lane."""
        first, last = (self.builder.extract_element(integers, INT(i)) for i in (0, LANES - 1))
        return self.builder.select(self.builder.icmp_signed("<", first, last), first, last)

    def place(self, pointer, index):
        index = self.builder.sext(index, WORD) if index.type == INT else index
        return self.builder.bitcast(self.builder.gep(pointer, [index]), self.vector.as_pointer())

    def load(self, pointer, index):
        return self.builder.load(self.place(pointer, index), align=self.bytes)

    def store(self, value, pointer, index):
        self.builder.store(value, self.place(pointer, index), align=self.bytes)

    def permute(self, low, indices, high):
        """Lane by lane the value number `indices`, its last five bits, of the 32 in `low` and `high`."""
        return self.call("llvm.x86.avx512.vpermi2var.ps.512", low, indices, high)

    def look_up(self, pointer, indices, low, tables=1):
        """pointer[indices], for indices that lie from `low` on, within 32 times `tables`."""
        nearby, found = self.builder.sub(indices, self.splat(low, INTS)), None
        for table in range(tables):
            start = self.builder.add(low, INT(TABLE * table))
            halves = [self.load(pointer, self.builder.add(start, INT(shift))) for shift in (0, LANES)]
            here = self.permute(halves[0], nearby, halves[1])
            if found is None:
                found = here
            else:
                further = self.builder.icmp_signed(">=", nearby, ir.Constant(INTS, [TABLE * table] * LANES))
                found = self.builder.select(further, here, found)
        return found


def _data(context, builder, array_type, array):
    return make_array(array_type)(context, builder, array).data


@intrinsic
def _add_interpolated(typing, sums, at, line, start, slope, top):
    def generate(context, builder, signature, arguments):
        lanes = Lanes(builder)
        target, source = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2))
        start, slope, top = arguments[3:]
        z = lanes.add(lanes.splat(start), lanes.times(lanes.steps(), lanes.splat(slope)))
        z = lanes.clamp(z, lanes.number(0), lanes.splat(top))
        k = builder.fptosi(z, INTS)
        fraction = lanes.minus(z, builder.sitofp(k, lanes.vector))
        low = lanes.ends(k)
        here = lanes.look_up(source, k, low)
        behind = lanes.look_up(builder.gep(source, [WORD(1)]), k, low)
        value = lanes.add(here, lanes.times(fraction, lanes.minus(behind, here)))
        lanes.store(lanes.add(lanes.load(target, arguments[1]), value), target, arguments[1])
        return context.get_dummy_value()

    number = line.dtype
    return types.void(sums, types.intp, line, number, number, number), generate


def _gather(tables):
    def gather(typing, line, voxel, pixels, padding, rows, start, slope, inverse, candidates):
        def generate(context, builder, signature, arguments):
            lanes = Lanes(builder)
            target, source = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2))
            voxel, padding, rows, start, slope, inverse, candidates = arguments[1], *arguments[3:]
            k = lanes.add(lanes.splat(builder.sitofp(voxel, lanes.scalar)), lanes.steps())
            away = lanes.minus(k, lanes.splat(start))
            reach = lanes.call("llvm.fabs.v16f32", lanes.splat(inverse))
            first = lanes.minus(lanes.times(away, lanes.splat(inverse)), reach)
            first = lanes.add(lanes.call("llvm.floor.v16f32", first), lanes.number(1))
            distance = lanes.minus(lanes.times(first, lanes.splat(slope)), away)
            few = builder.sitofp(builder.sub(INT(0), candidates), lanes.scalar)
            first = lanes.clamp(first, lanes.splat(few), lanes.splat(builder.sitofp(rows, lanes.scalar)))
            index = builder.add(builder.fptosi(first, INTS), lanes.splat(padding, INTS))
            low = lanes.ends(index)
            total, offset = (cgutils.alloca_once(builder, lanes.vector) for _ in range(2))
            builder.store(lanes.number(0), total)
            builder.store(distance, offset)
            with cgutils.for_range(builder, candidates) as loop:
                d = builder.load(offset)
                found = lanes.look_up(builder.gep(source, [builder.sext(loop.index, WORD)]), index, low, tables)
                builder.store(lanes.add(builder.load(total), lanes.times(lanes.hat(d), found)), total)
                builder.store(lanes.add(d, lanes.splat(slope)), offset)
            lanes.store(builder.load(total), target, voxel)
            return context.get_dummy_value()

        number, count = line.dtype, types.int32
        return types.void(line, count, pixels, count, count, number, number, number, count), generate

    return intrinsic(gather)


_gather_rows, _gather_many_rows = _gather(1), _gather(2)


@intrinsic
def _add_bilinear(typing, sums, at, rays, plane, number, lines, offset, stride, first, count, low, size):
    def generate(context, builder, signature, arguments):
        lanes = Lanes(builder)
        target, given, values = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 5))
        at, plane, number = arguments[1], *arguments[3:5]
        offset, stride, first, count, low, size = arguments[6:]
        parts = [lanes.load(given, builder.add(at, builder.mul(plane, WORD(n)))) for n in range(4)]
        across, along = (lanes.add(parts[n + 1], lanes.times(lanes.splat(number), parts[n])) for n in (0, 2))
        floor = lanes.call("llvm.floor.v16f32", along)
        here = builder.fptosi(floor, INTS)
        behind = builder.add(here, ir.Constant(INTS, [1] * LANES))
        share = lanes.minus(along, floor)
        weights, ids = [], []
        for place, weight in ((here, lanes.minus(lanes.number(1), share)), (behind, share)):
            inside = builder.icmp_unsigned("<", place, lanes.splat(size, INTS))
            weights.append(builder.select(inside, weight, lanes.number(0)))
            ids.append(builder.sub(place, lanes.splat(low, INTS)))
        total, distance = (cgutils.alloca_once(builder, lanes.vector) for _ in range(2))
        builder.store(lanes.load(target, at), total)
        builder.store(lanes.minus(across, lanes.splat(builder.sitofp(first, lanes.scalar))), distance)
        start = builder.add(offset, builder.sext(low, WORD))
        with cgutils.for_range(builder, count) as loop:
            line = builder.add(start, builder.mul(stride, builder.sext(loop.index, WORD)))
            halves = [lanes.load(values, builder.add(line, WORD(shift))) for shift in (0, LANES)]
            found = [lanes.times(w, lanes.permute(halves[0], i, halves[1])) for w, i in zip(weights, ids, strict=True)]
            d = builder.load(distance)
            value = lanes.times(lanes.hat(d), lanes.add(*found))
            builder.store(lanes.add(builder.load(total), value), total)
            builder.store(lanes.minus(d, lanes.number(1)), distance)
        lanes.store(builder.load(total), target, at)
        return context.get_dummy_value()

    word, count_ = types.intp, types.int32
    wanted = (sums, word, rays, word, types.float32, lines, word, word, count_, count_, count_, count_)
    return types.void(*wanted), generate


def _slices(span):
    def add(typing, sums, at, rays, plane, lines, offset, stride_a, stride, first, last):
        def generate(context, builder, signature, arguments):
            lanes = Lanes(builder)
            target, given, values = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2, 4))
            at, plane, offset, stride_a, stride, first, last = arguments[1], arguments[3], *arguments[5:]
            parts = [lanes.load(given, builder.add(at, builder.mul(plane, WORD(n)))) for n in range(4)]
            total = cgutils.alloca_once(builder, lanes.vector)
            builder.store(lanes.load(target, at), total)
            with cgutils.for_range(builder, builder.sub(last, first), intp=WORD) as loop:
                number = builder.add(first, loop.index)
                j = lanes.splat(builder.sitofp(builder.trunc(number, INT), lanes.scalar))
                across, along = (lanes.add(parts[n + 1], lanes.times(j, parts[n])) for n in (0, 2))
                floor = lanes.call("llvm.floor.v16f32", along)
                share, here = lanes.minus(along, floor), builder.fptosi(floor, INTS)
                low, line = lanes.ends(here), lanes.ends(builder.fptosi(across, INTS))
                ids = builder.sub(here, lanes.splat(low, INTS))
                further = builder.add(ids, ir.Constant(INTS, [1] * LANES))
                start = builder.add(builder.mul(number, stride_a), builder.mul(builder.sext(line, WORD), stride))
                start = builder.add(builder.add(offset, start), builder.sext(low, WORD))
                distance = lanes.minus(across, lanes.splat(builder.sitofp(line, lanes.scalar)))
                found = builder.load(total)
                for n in range(span + 2):
                    halves = [lanes.load(values, builder.add(start, WORD(shift))) for shift in (0, LANES)]
                    near, far = (lanes.permute(halves[0], i, halves[1]) for i in (ids, further))
                    value = lanes.add(near, lanes.times(share, lanes.minus(far, near)))
                    found = lanes.add(found, lanes.times(lanes.hat(lanes.minus(distance, lanes.number(n))), value))
                    start = builder.add(start, stride)
                builder.store(found, total)
            lanes.store(builder.load(total), target, at)
            return context.get_dummy_value()

        word = types.intp
        return types.void(sums, word, rays, word, lines, word, word, word, word, word), generate

    return intrinsic(add)


_add_slices_of_3, _add_slices_of_4, _add_slices_of_5 = (_slices(span) for span in (1, 2, 3))


def _gather_into_lines(tables):
    def gather(
        typing, lines, offset, stride, voxel, nominal, number, many, pixels, plane, padding, rows, a, b, c, count
    ):
        def generate(context, builder, signature, arguments):
            lanes = Lanes(builder)
            target, given = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 7))
            offset, stride, voxel, nominal, number, many = arguments[1:7]
            plane, padding, rows, a, b, c, count = arguments[8:]
            k = lanes.add(lanes.splat(builder.sitofp(voxel, lanes.scalar)), lanes.steps())
            ahead = builder.fcmp_ordered("<", k, lanes.splat(builder.sitofp(nominal, lanes.scalar)))
            below = lanes.add(lanes.number(1), lanes.times(lanes.splat(c), k))
            row = builder.fdiv(lanes.add(lanes.splat(a), lanes.times(lanes.splat(b), k)), below, flags=FAST)
            row = lanes.call("llvm.ceil.v16f32", lanes.minus(row, lanes.number(ROUNDED)))
            few = builder.sitofp(builder.sub(INT(0), count), lanes.scalar)
            row = lanes.clamp(row, lanes.splat(few), lanes.splat(builder.sitofp(rows, lanes.scalar)))
            index = builder.add(builder.fptosi(row, INTS), lanes.splat(padding, INTS))
            low, line = lanes.ends(index), lanes.splat(builder.sitofp(number, lanes.scalar))
            weights, distances = (cgutils.alloca_once(builder, lanes.vector, INT(NEAR_ROWS)) for _ in range(2))
            with cgutils.for_range(builder, count) as loop:
                start = builder.sext(loop.index, WORD)
                x, y, g = (
                    lanes.look_up(
                        builder.gep(given, [builder.add(start, builder.mul(plane, WORD(n)))]), index, low, tables
                    )
                    for n in range(3)
                )
                weight = lanes.times(lanes.hat(lanes.minus(x, k)), g)
                weight = builder.select(ahead, lanes.number(0), weight)
                builder.store(weight, builder.gep(weights, [loop.index]))
                builder.store(lanes.minus(y, line), builder.gep(distances, [loop.index]))
            place, total = builder.add(offset, builder.sext(voxel, WORD)), cgutils.alloca_once(builder, lanes.vector)
            with cgutils.for_range(builder, many) as loop:
                at = builder.add(place, builder.mul(stride, builder.sext(loop.index, WORD)))
                beyond = lanes.splat(builder.sitofp(loop.index, lanes.scalar))
                builder.store(lanes.load(target, at), total)
                with cgutils.for_range(builder, count) as near:
                    weight, distance = (builder.load(builder.gep(of, [near.index])) for of in (weights, distances))
                    share = lanes.times(lanes.hat(lanes.minus(distance, beyond)), weight)
                    builder.store(lanes.add(builder.load(total), share), total)
                lanes.store(builder.load(total), target, at)
            return context.get_dummy_value()

        word, count_, real = types.intp, types.int32, types.float32
        wanted = (lines, word, word, count_, count_, count_, count_, pixels)
        return types.void(*wanted, word, count_, count_, real, real, real, count_), generate

    return intrinsic(gather)


_gather_32, _gather_64 = _gather_into_lines(1), _gather_into_lines(2)


@intrinsic
def transpose_block(typing, source, at, stride, target, to, step):
    """target[to + i * step + j] = source[at + j * stride + i], 16 x 16, by four rounds of exchanging halves."""

    def generate(context, builder, signature, arguments):
        lanes = Lanes(builder, signature.args[0].dtype)
        given, wanted = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 3))
        at, stride, to, step = arguments[1], arguments[2], arguments[4], arguments[5]
        rows = [lanes.load(given, builder.add(at, builder.mul(stride, WORD(j)))) for j in range(LANES)]
        half = LANES // 2
        while half:
            rows = _exchange(builder, rows, half)
            half //= 2
        for i, row in enumerate(rows):
            lanes.store(row, wanted, builder.add(to, builder.mul(step, WORD(i))))
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target, types.intp, types.intp), generate


def _exchange(builder, rows, half):
    """Swap the off-diagonal blocks of side `half` in each block of twice that side."""
    low = [i if not i & half else LANES + i - half for i in range(LANES)]
    high = [i + half if not i & half else LANES + i for i in range(LANES)]
    swapped = list(rows)
    for i in range(LANES):
        if not i & half:
            for place, mask in ((i, low), (i + half, high)):
                swapped[place] = builder.shuffle_vector(rows[i], rows[i + half], ir.Constant(INTS, mask))
    return swapped
