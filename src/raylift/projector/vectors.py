"""Sixteen numbers at a time, for the loops of `kernels`: what numba's own vectoriser leaves scalar.

Each function writes LLVM's vector code. A look-up among 32 neighbours is one permutation where the processor has
AVX-512 (float32); elsewhere it is LLVM's gather, which every processor has in some form.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 16
REACH = 30.0  # the first and the last lane's look-up may lie this far apart
PERMUTES = bool(llvm.get_host_cpu_features().get("avx512f"))  # numba compiles for, and caches by, this processor
INT, WORD = ir.IntType(32), ir.IntType(64)
INTS, BITS = ir.VectorType(INT, LANES), ir.VectorType(ir.IntType(1), LANES)
FAST = ("fast",)


class Lanes:
    """Vector instructions on one element type, spelled short."""

    def __init__(self, builder, numba_type):
        single = numba_type == types.float32
        self.builder, self.scalar = builder, ir.FloatType() if single else ir.DoubleType()
        self.vector, self.bytes = ir.VectorType(self.scalar, LANES), 4 if single else 8
        self.name = f"v{LANES}f{8 * self.bytes}"
        self.permutes = PERMUTES and single

    def splat(self, value, vector=None):
        vector = vector or self.vector
        nothing = ir.Constant(vector, ir.Undefined)
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

    def call(self, name, result, arguments):
        kind = ir.FunctionType(result, [a.type for a in arguments])
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

    def look_up(self, pointer, indices, low, tables=1):
        """pointer[indices], for indices that lie from `low` on, within 32 times `tables`, where it permutes."""
        if not self.permutes:
            pointers = self.builder.gep(
                self.splat(pointer, ir.VectorType(pointer.type, LANES)), [indices], source_etype=self.scalar
            )
            every, nothing = ir.Constant(BITS, [1] * LANES), ir.Constant(self.vector, ir.Undefined)
            name = f"llvm.masked.gather.{self.name}.v{LANES}p0"
            return self.call(name, self.vector, [pointers, INT(self.bytes), every, nothing])
        nearby, found = self.builder.sub(indices, self.splat(low, INTS)), None
        for table in range(tables):
            start = self.builder.add(low, INT(32 * table))
            halves = [self.load(pointer, self.builder.add(start, INT(shift))) for shift in (0, 16)]
            here = self.call("llvm.x86.avx512.vpermi2var.ps.512", self.vector, [halves[0], nearby, halves[1]])
            if found is None:
                found = here
            else:
                further = self.builder.icmp_signed(">=", nearby, ir.Constant(INTS, [32 * table] * LANES))
                found = self.builder.select(further, here, found)
        return found


def _data(context, builder, array_type, array):
    return make_array(array_type)(context, builder, array).data


@intrinsic
def add_interpolated(typing, sums, at, line, start, slope, top):
    """sums[at + i] += `line` interpolated at start + i * slope, which is first clamped to 0 ... top; 16 of them.

    `slope` is at most REACH / 15 either way, and `line` has 32 further values behind `top`.
    """

    def generate(context, builder, signature, arguments):
        lanes = Lanes(builder, signature.args[2].dtype)
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


def _gather_rows(tables):
    def gather_rows(typing, line, voxel, pixels, padding, rows, start, slope, inverse, candidates):
        def generate(context, builder, signature, arguments):
            lanes = Lanes(builder, signature.args[0].dtype)
            target, source = (_data(context, builder, signature.args[i], arguments[i]) for i in (0, 2))
            voxel, padding, rows, start, slope, inverse, candidates = arguments[1], *arguments[3:]
            one, zero = lanes.number(1), lanes.number(0)
            k = lanes.add(lanes.splat(builder.sitofp(voxel, lanes.scalar)), lanes.steps())
            away = lanes.minus(k, lanes.splat(start))
            reach = lanes.call(f"llvm.fabs.{lanes.name}", lanes.vector, [lanes.splat(inverse)])
            first = lanes.minus(lanes.times(away, lanes.splat(inverse)), reach)
            first = lanes.add(lanes.call(f"llvm.floor.{lanes.name}", lanes.vector, [first]), one)
            distance = lanes.minus(lanes.times(first, lanes.splat(slope)), away)
            few = builder.sitofp(builder.sub(INT(0), candidates), lanes.scalar)
            first = lanes.clamp(first, lanes.splat(few), lanes.splat(builder.sitofp(rows, lanes.scalar)))
            index = builder.add(builder.fptosi(first, INTS), lanes.splat(padding, INTS))
            low = lanes.ends(index)
            total, offset = (cgutils.alloca_once(builder, lanes.vector) for _ in range(2))
            builder.store(zero, total)
            builder.store(distance, offset)
            with cgutils.for_range(builder, candidates) as loop:
                d = builder.load(offset)
                weight = lanes.minus(one, lanes.call(f"llvm.fabs.{lanes.name}", lanes.vector, [d]))
                weight = builder.select(builder.fcmp_ordered(">", weight, zero), weight, zero)
                found = lanes.look_up(builder.gep(source, [builder.sext(loop.index, WORD)]), index, low, tables)
                builder.store(lanes.add(builder.load(total), lanes.times(weight, found)), total)
                builder.store(lanes.add(d, lanes.splat(slope)), offset)
            lanes.store(builder.load(total), target, voxel)
            return context.get_dummy_value()

        number, count = line.dtype, types.int32
        return types.void(line, count, pixels, count, count, number, number, number, count), generate

    return intrinsic(gather_rows)


# line[voxel + i] = the sum over rows r of max(0, 1 - |start + r * slope - voxel - i|) * pixels[padding + r], 16 voxels;
# `candidates` is how many rows can be that near, and `pixels` has as many zeros before its rows and 64 more behind.
# The first is for |1 / slope| up to REACH / 15, the second for up to twice that.
gather_rows, gather_many_rows = _gather_rows(1), _gather_rows(2)


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
