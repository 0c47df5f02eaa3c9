//! cpu.shares of cgroup v1 as cpu.weight of v2.
//!
//! 2 shares are a weight of 1, the usual 1024 of 100, and 262144 of 10000; in between it is what runc and crun have:
//! ⌈10^((l² + 125 l) / 612 − 7/34)⌉, where l is log₂ of the shares. In fixed point, as there is no libm. Pure.

/// Where the point is in logarithms, and in what they are logarithms of.
const POINT: u32 = 48;
const FINE: u32 = 60;
const ONE: u64 = 1 << FINE;

/// The weight of 2 to 262144 shares.
pub fn weight(shares: u64) -> u64 {
    // log₂ 10 and ln 2.
    const LOG_10: u64 = 0x3_5269_e12f_346e;
    const LN_2: u64 = 0xb17_217f_7d1c_f79a;
    let log = log2(shares);
    // 7/34 is 126/612.
    let exponent = (multiply(log, log, POINT) + 125 * log).saturating_sub(126 << POINT) / 612;
    let exponent = multiply(exponent, LOG_10, POINT);
    let (whole, part) = (exponent >> POINT, (exponent & ((1 << POINT) - 1)) << (FINE - POINT));
    // What is a whole number but for its last digits is one.
    let power = (exp(multiply(part, LN_2, FINE)) >> (FINE - POINT) << whole) - (1 << (POINT - 30));
    (power >> POINT) + 1
}

fn multiply(one: u64, other: u64, point: u32) -> u64 {
    ((u128::from(one) * u128::from(other)) >> point) as u64
}

/// The logarithm, bit by bit: that of the square is twice as much.
fn log2(number: u64) -> u64 {
    let whole = number.max(1).ilog2();
    let (mut rest, mut log) = (number << (FINE - whole), u64::from(whole));
    for _ in 0..POINT {
        rest = multiply(rest, rest, FINE);
        log <<= 1;
        if rest >= 2 * ONE {
            rest >>= 1;
            log |= 1;
        }
    }
    log
}

/// e to a power below 1, by its series.
fn exp(power: u64) -> u64 {
    let (mut term, mut sum) = (ONE, ONE);
    for index in 1..=20 {
        term = multiply(term, power, FINE) / index;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_is_that_of_the_formula() {
        for shares in 2..=262_144u32 {
            let log = f64::from(shares).log2();
            let exact = 10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil();
            assert_eq!(weight(shares.into()), exact as u64, "{shares}");
        }
        assert_eq!([2, 3, 512, 1024, 2048, 262_144].map(weight), [1, 2, 59, 100, 174, 10_000]);
    }
}
