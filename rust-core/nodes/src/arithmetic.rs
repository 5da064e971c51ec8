//! Nodes that compute with numbers, as Python does, and with arrays of numbers, as NumPy does.
//!
//! Python's rules: whole numbers stay whole and are exact, within 64 bits; dividing gives a float,
//! the one nearest to the true quotient; the remainder has the sign of the operand. NumPy's: an
//! array keeps its element type, and the operand adapts to it; whole numbers that are divided, or
//! meet a float, become float64. What would silently go wrong in NumPy, a whole number that wraps
//! around or a division by zero, is an error here.

use bytemuck::pod_read_unaligned;
use remotemedia_runtime::memory::room;
use remotemedia_runtime::registry::About;
use remotemedia_runtime::value::Element;
use remotemedia_runtime::{
    Code, Context, DType, Error, Instance, Node, NodeType, Result, Tensor, Value,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;
use std::borrow::Cow;
use std::ops::{Add, Div, Mul, Sub};
use std::sync::Arc;

const TAKES: &str = "a number, or an array of numbers";
const GIVES: &str = "a number, or an array of the same shape";

#[derive(Deserialize, JsonSchema)]
struct CalculatorParams {
    /// What to do with each value.
    operation: Operation,
    /// The number on the right: value operation operand.
    operand: Number,
}

/// `Calculator`: one arithmetic operation.
pub fn calculator() -> NodeType {
    let about = About {
        name: "Calculator",
        summary: "Computes value + operand, or another operation, as Python does.",
        takes: TAKES,
        gives: GIVES,
        heavy: false,
        example: json!({"params": {"operation": "add", "operand": 5},
                        "input": [1, 2.5, true], "output": [6, 7.5, 6]}),
    };
    NodeType::new::<CalculatorParams>(about, |params| {
        Arithmetic::instance(params.operation, params.operand)
    })
}

#[derive(Deserialize, JsonSchema)]
struct MultiplyParams {
    /// What each value is multiplied by.
    #[serde(default = "two")]
    factor: Number,
}

fn two() -> Number {
    Number::Float(2.0)
}

/// `Multiply`: a factor.
pub fn multiply() -> NodeType {
    let about = About {
        name: "Multiply",
        summary: "Multiplies each value by a factor.",
        takes: TAKES,
        gives: GIVES,
        heavy: false,
        example: json!({"params": {"factor": 3}, "input": [2, 0.5], "output": [6, 1.5]}),
    };
    NodeType::new::<MultiplyParams>(about, |params| {
        Arithmetic::instance(Operation::Multiply, params.factor)
    })
}

#[derive(Deserialize, JsonSchema)]
struct AddParams {
    /// What is added to each value.
    #[serde(default = "zero")]
    addend: Number,
}

fn zero() -> Number {
    Number::Float(0.0)
}

/// `Add`: an addend.
pub fn add() -> NodeType {
    let about = About {
        name: "Add",
        summary: "Adds a number to each value.",
        takes: TAKES,
        gives: GIVES,
        heavy: false,
        example: json!({"params": {"addend": -1}, "input": [2, 0.5], "output": [1, -0.5]}),
    };
    NodeType::new::<AddParams>(about, |params| Arithmetic::instance(Operation::Add, params.addend))
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Modulo,
}

/// A number as it was written: `2` and `2.0` are not the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Number {
    /// Between `i64::MIN` and `u64::MAX`.
    Int(i128),
    Float(f64),
}

impl Number {
    fn of(value: &Value) -> Option<Number> {
        match *value {
            Value::Bool(value) => Some(Number::Int(value.into())),
            Value::Int(value) => Some(Number::Int(value.into())),
            Value::UInt(value) => Some(Number::Int(value.into())),
            Value::Float(value) => Some(Number::Float(value)),
            _ => None,
        }
    }

    fn to_f64(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(source)?;
        let whole = number.as_i128().map(Number::Int);
        let number = whole.or_else(|| number.as_f64().map(Number::Float));
        number.ok_or_else(|| de::Error::custom("a number beyond 64 bits"))
    }
}

impl JsonSchema for Number {
    fn schema_name() -> Cow<'static, str> {
        "Number".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number"})
    }

    fn inline_schema() -> bool {
        true
    }
}

struct Arithmetic {
    operation: Operation,
    operand: Number,
}

impl Arithmetic {
    fn instance(operation: Operation, operand: Number) -> Instance {
        Instance::new(Arithmetic { operation, operand })
    }
}

impl Node for Arithmetic {
    fn process(&mut self, value: Value, cx: &mut Context) -> Result<()> {
        let Arithmetic { operation, operand } = *self;
        let result = match (Number::of(&value), value) {
            (Some(number), _) => operation.numbers(number, operand)?,
            (None, Value::Tensor(tensor)) => {
                // A tensor of our own is computed in place; of a shared one this is a second view.
                let tensor = Arc::unwrap_or_clone(tensor);
                Value::Tensor(operation.tensor(tensor, operand, &|| cx.check())?.into())
            }
            (None, value) => {
                return Err(Error::node(format!(
                    "takes a number or an array of numbers, got {}",
                    value.kind()
                ))
                .hint("send each number as its own item, or an array"));
            }
        };
        cx.emit(result);
        Ok(())
    }
}

impl Operation {
    fn symbol(self) -> &'static str {
        match self {
            Operation::Add => "+",
            Operation::Subtract => "-",
            Operation::Multiply => "*",
            Operation::Divide => "/",
            Operation::Power => "**",
            Operation::Modulo => "%",
        }
    }

    fn check_zero(self, operand: Number) -> Result<()> {
        match self {
            Operation::Divide | Operation::Modulo if operand.to_f64() == 0.0 => Err(by_zero()),
            _ => Ok(()),
        }
    }

    fn numbers(self, left: Number, right: Number) -> Result<Value> {
        self.check_zero(right)?;
        match (left, right) {
            (Number::Int(left), Number::Int(right)) => self.integers(left, right),
            _ => self.floats(left.to_f64(), right.to_f64()),
        }
    }

    fn integers(self, left: i128, right: i128) -> Result<Value> {
        match self {
            Operation::Divide => return Ok(Value::Float(quotient(left, right))),
            Operation::Power if right < 0 => return self.floats(left as f64, right as f64),
            _ => {}
        }
        let result = self.exact(left, right).and_then(Value::int);
        result.ok_or_else(|| {
            self.does_not_fit(left, right, "64 bits")
                .hint("write the parameter as a float to compute with floats")
        })
    }

    fn floats(self, left: f64, right: f64) -> Result<Value> {
        let result = self.float(left, right);
        if self == Operation::Power && left.is_finite() && right.is_finite() {
            if left == 0.0 && right < 0.0 {
                return Err(by_zero());
            }
            if left < 0.0 && right.fract() != 0.0 {
                let message = "a negative number to a fractional power is not a real number";
                return Err(Error::node(message).hint("use a whole power, or positive numbers"));
            }
            if result.is_infinite() {
                let message = "the power is too large for a float";
                return Err(Error::node(message).hint("a float ends at about 1.8e308"));
            }
        }
        Ok(Value::Float(result))
    }

    fn float<T: Float>(self, left: T, right: T) -> T {
        match self {
            Operation::Add => left + right,
            Operation::Subtract => left - right,
            Operation::Multiply => left * right,
            Operation::Divide => left / right,
            Operation::Power => left.power(right),
            Operation::Modulo => left.modulo(right),
        }
    }

    /// The whole result of an operation that has one, if it fits in 128 bits. The operand of
    /// modulo is not 0 and that of power not negative.
    fn exact(self, left: i128, right: i128) -> Option<i128> {
        match self {
            Operation::Add => left.checked_add(right),
            Operation::Subtract => left.checked_sub(right),
            Operation::Multiply => left.checked_mul(right),
            Operation::Divide => None,
            Operation::Power => match left {
                0 | 1 => Some(if right == 0 { 1 } else { left }),
                -1 => Some(if right % 2 == 0 { 1 } else { -1 }),
                _ => left.checked_pow(right.try_into().ok()?),
            },
            Operation::Modulo => {
                let rest = left % right;
                Some(if rest != 0 && (rest < 0) != (right < 0) { rest + right } else { rest })
            }
        }
    }

    fn tensor(self, tensor: Tensor, operand: Number, check: Check) -> Result<Tensor> {
        self.check_zero(operand)?;
        match tensor.dtype() {
            DType::F32 => self.float_tensor(tensor, operand.to_f64() as f32, check),
            DType::F64 => self.float_tensor(tensor, operand.to_f64(), check),
            i8::DTYPE => self.int_tensor::<i8>(tensor, operand, check),
            i16::DTYPE => self.int_tensor::<i16>(tensor, operand, check),
            i32::DTYPE => self.int_tensor::<i32>(tensor, operand, check),
            i64::DTYPE => self.int_tensor::<i64>(tensor, operand, check),
            u8::DTYPE => self.int_tensor::<u8>(tensor, operand, check),
            u16::DTYPE => self.int_tensor::<u16>(tensor, operand, check),
            u32::DTYPE => self.int_tensor::<u32>(tensor, operand, check),
            u64::DTYPE => self.int_tensor::<u64>(tensor, operand, check),
            other => Err(Error::new(
                Code::Unsupported,
                format!("does not compute with arrays of {}", other.name()),
            )
            .hint("convert the array to float32, float64 or an integer type")),
        }
    }

    fn float_tensor<T: Float>(self, tensor: Tensor, right: T, check: Check) -> Result<Tensor> {
        match self {
            // Each a loop of its own, which the compiler can turn into vector instructions.
            Operation::Add => tensor.map(check, |left: T| left + right),
            Operation::Subtract => tensor.map(check, |left: T| left - right),
            Operation::Multiply => tensor.map(check, |left: T| left * right),
            Operation::Divide => tensor.map(check, |left: T| left / right),
            Operation::Power | Operation::Modulo => {
                tensor.map(check, |left| self.float(left, right))
            }
        }
    }

    fn int_tensor<T: Element + Into<i128> + TryFrom<i128>>(
        self,
        tensor: Tensor,
        operand: Number,
        check: Check,
    ) -> Result<Tensor> {
        let right = match operand {
            Number::Int(right) if self != Operation::Divide => right,
            _ => {
                let right = operand.to_f64();
                let float = |left: T| Ok(self.float(left.into() as f64, right));
                return collected(&tensor, check, float);
            }
        };
        let widen = "convert the array to a wider type, or write the parameter as a float";
        let name = T::DTYPE.name();
        if self == Operation::Power && right < 0 {
            let message = "whole numbers to a negative power are not whole";
            return Err(Error::node(message).hint("write the parameter as a float"));
        }
        if T::try_from(right).is_err() {
            return Err(Error::node(format!("{right} does not fit in {name}")).hint(widen));
        }
        collected(&tensor, check, |left: T| {
            let result = self.exact(left.into(), right);
            result
                .and_then(|result| T::try_from(result).ok())
                .ok_or_else(|| self.does_not_fit(left.into(), right, &name).hint(widen))
        })
    }

    fn does_not_fit(self, left: i128, right: i128, what: &str) -> Error {
        Error::node(format!("{left} {} {right} does not fit in {what}", self.symbol()))
    }
}

fn by_zero() -> Error {
    Error::node("division by zero")
}

/// Whether to go on.
type Check<'a> = &'a dyn Fn() -> Result<()>;

/// A tensor of the same shape with `f` of every element.
fn collected<T: Element, U: Element>(
    tensor: &Tensor,
    check: Check,
    f: impl Fn(T) -> Result<U>,
) -> Result<Tensor> {
    let mut out = room(tensor.len())?;
    for part in tensor.bytes().chunks(Tensor::STRIDE * size_of::<T>()) {
        for element in part.chunks_exact(size_of::<T>()) {
            out.push(f(pod_read_unaligned(element))?);
        }
        check()?;
    }
    Ok(Tensor::from_vec(out, tensor.shape()))
}

/// The float nearest to the true quotient; ties to even. Both numbers have at most 64 bits, and
/// the right one is not 0.
fn quotient(left: i128, right: i128) -> f64 {
    let (above, below) = (left.unsigned_abs(), right.unsigned_abs());
    let negative = (left < 0) != (right < 0);
    // Shifted to the top, the quotient has 64 bits or more: enough for one rounding to 53, if the
    // last bit tells whether there is a rest.
    let shift = above.leading_zeros().min(127);
    let above = above << shift;
    let rest = u128::from(above % below != 0);
    let magnitude = ((above / below) | rest) as f64 / 2f64.powi(shift as i32);
    if negative { -magnitude } else { magnitude }
}

/// A float of either size.
trait Float:
    Element + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// Left to the power of right.
    fn power(self, right: Self) -> Self;

    /// What remains of left, with the sign of right.
    fn modulo(self, right: Self) -> Self;
}

macro_rules! floats {
    ($($type:ty),*) => {
        $(impl Float for $type {
            fn power(self, right: Self) -> Self {
                self.powf(right)
            }

            fn modulo(self, right: Self) -> Self {
                let rest = self % right;
                if rest == 0.0 {
                    rest.copysign(right)
                } else if (rest < 0.0) != (right < 0.0) {
                    rest + right
                } else {
                    rest
                }
            }
        })*
    };
}
floats!(f32, f64);

#[cfg(test)]
mod tests {
    use super::*;
    use remotemedia_runtime::Buffer;

    const GO: Check = &|| Ok(());

    fn int(number: i128) -> Number {
        Number::Int(number)
    }

    #[test]
    fn whole_numbers_are_exact_or_refused() {
        let go = |op: Operation, a, b| op.numbers(int(a), int(b));
        assert_eq!(go(Operation::Modulo, -7, 3), Ok(Value::Int(2)));
        assert_eq!(go(Operation::Modulo, 7, -3), Ok(Value::Int(-2)));
        let expected = Value::UInt(12_157_665_459_056_928_801);
        assert_eq!(go(Operation::Power, 3, 40), Ok(expected));
        assert_eq!(go(Operation::Power, -1, u64::MAX.into()), Ok(Value::Int(-1)));
        assert_eq!(go(Operation::Power, 2, -1), Ok(Value::Float(0.5)));
        assert_eq!(go(Operation::Power, 0, -1).unwrap_err().message, "division by zero");
        let error = go(Operation::Multiply, u64::MAX.into(), u64::MAX.into()).unwrap_err();
        assert!(error.message.ends_with("does not fit in 64 bits"), "{error}");
    }

    #[test]
    fn quotients_are_the_nearest_float() {
        // From Python.
        for (a, b, expected) in [
            (9_007_199_254_740_993, 1, 9_007_199_254_740_992.0),
            (u64::MAX.into(), 3, 6.148_914_691_236_517e18),
            (u64::MAX.into(), u64::MAX.into(), 1.0),
            (i64::MIN.into(), u64::MAX.into(), -0.5),
            (1, u64::MAX.into(), 5.421_010_862_427_522e-20),
            (0, -5, 0.0),
        ] {
            assert_eq!(quotient(a, b), expected, "{a} / {b}");
        }
    }

    #[test]
    fn arrays_keep_their_type_and_never_wrap() {
        let bytes = Tensor::from_vec(vec![1u8, 200], &[2]);
        let sum = Operation::Add.tensor(bytes.clone(), int(55), GO).unwrap();
        assert_eq!(sum, Tensor::from_vec(vec![56u8, 255], &[2]));
        let error = Operation::Add.tensor(bytes.clone(), int(56), GO).unwrap_err();
        assert_eq!(error.message, "200 + 56 does not fit in uint8");
        let half = Operation::Divide.tensor(bytes.clone(), int(2), GO).unwrap();
        assert_eq!(half, Tensor::from_vec(vec![0.5, 100.0], &[2]));
        let halves = Tensor::new(DType { code: 2, bits: 16 }, &[1], Buffer::new(vec![0u8; 2]));
        let error = Operation::Add.tensor(halves.unwrap(), int(1), GO).unwrap_err();
        assert_eq!(error.code, Code::Unsupported);
    }

    #[test]
    fn arrays_are_computed_in_place_only_for_the_last_reader() {
        let tensor = Tensor::from_vec(vec![1f32, 2.0], &[2]);
        let (address, shared) = (tensor.bytes().as_ptr(), tensor.clone());
        let elsewhere = Operation::Add.tensor(tensor, int(1), GO).unwrap();
        assert_ne!(elsewhere.bytes().as_ptr(), address);
        assert_eq!(shared, Tensor::from_vec(vec![1f32, 2.0], &[2]));
        let in_place = Operation::Add.tensor(shared, int(1), GO).unwrap();
        assert_eq!(in_place.bytes().as_ptr(), address);
        assert_eq!(in_place, elsewhere);
    }

    #[test]
    fn misaligned_arrays_are_read() {
        struct Shifted(Vec<u64>);
        impl remotemedia_runtime::Storage for Shifted {
            fn bytes(&self) -> &[u8] {
                &bytemuck::must_cast_slice(&self.0)[1..9]
            }
        }
        let memory = Buffer::new(Shifted(vec![0x0500_0000, 0]));
        let tensor = Tensor::new(i32::DTYPE, &[2], memory).unwrap();
        assert!(tensor.elements::<i32>().is_none());
        let sum = Operation::Add.tensor(tensor, int(1), GO).unwrap();
        assert_eq!(sum.shape(), [2]);
        assert_eq!(sum.elements::<i32>().map(|x| x[1]), Some(1));
    }
}
