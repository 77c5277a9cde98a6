//! The smallest widths of a policy's layers on a command line.

use std::fmt;
use std::str::FromStr;

use w4ax::dispatch::LayerFloors;
use w4ax::{Error, Result, Width};

/// The smallest width of a block, or of the head: `3=a8` or `head=a4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The block; `None` for the head.
    pub block: Option<usize>,
    /// Its smallest width.
    pub width: Width,
}

impl Floor {
    /// Returns the floors of a policy of `blocks` blocks for [`Policy::set_floors`], A2 where none
    /// is given.
    ///
    /// # Errors
    /// [`Error::Range`] for a block that the policy does not have, or two floors of one layer.
    ///
    /// [`Policy::set_floors`]: super::policy::Policy::set_floors
    pub fn of_policy(floors: &[Self], blocks: usize) -> Result<LayerFloors> {
        let mut widths = vec![None; blocks + 1];
        for floor in floors {
            let refuse = |range| Error::Range {
                what: "--floors",
                value: format!("`{floor}` of a policy of {blocks} blocks"),
                range,
            };
            let place = match floor.block {
                Some(block) if block < blocks => &mut widths[block],
                Some(_) => return Err(refuse("a block of the policy, or `head`")),
                None => &mut widths[blocks],
            };
            if place.replace(floor.width).is_some() {
                return Err(refuse("one floor of each layer"));
            }
        }
        let widths = widths.into_iter().map(|floor| floor.unwrap_or(Width::A2));
        Ok(LayerFloors::new(widths.collect()))
    }

    /// Returns the floors above A2 of [`Policy::floors`].
    ///
    /// [`Policy::floors`]: super::policy::Policy::floors
    pub fn above_a2(floors: &LayerFloors) -> impl Iterator<Item = Self> {
        let head = floors.len() - 1;
        let all = floors
            .as_slice()
            .iter()
            .enumerate()
            .map(move |(at, &width)| Self {
                block: (at < head).then_some(at),
                width,
            });
        all.filter(|floor| floor.width > Width::A2)
    }

    /// Returns the name of the layer: the index of the block, or `head`.
    pub fn layer(&self) -> String {
        self.block.map_or("head".into(), |block| block.to_string())
    }
}

impl FromStr for Floor {
    type Err = Error;

    /// # Errors
    /// [`Error::Range`] for a text that is not a block or `head`, `=`, and the name of a width.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = || Error::Range {
            what: "floor",
            value: format!("`{text}`"),
            range: "BLOCK=WIDTH or head=WIDTH, such as 3=a8",
        };
        let (layer, width) = text.split_once('=').ok_or_else(refuse)?;
        let block = match layer {
            "head" => None,
            block => Some(block.parse().map_err(|_| refuse())?),
        };
        Ok(Self {
            block,
            width: width.parse()?,
        })
    }
}

impl fmt::Display for Floor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.layer(), self.width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Vec<Floor> {
        text.split(',')
            .map(|floor| floor.parse().unwrap())
            .collect()
    }

    #[test]
    fn floors_are_placed_by_block() {
        let floors = parse("3=a8,head=bf16,0=a4");
        let [a2, a4, a8, bf16] = Width::ALL;
        let widths = Floor::of_policy(&floors, 4).unwrap();
        assert_eq!(widths.as_slice(), [a4, a2, a2, a8, bf16]);
        let above: Vec<String> = Floor::above_a2(&widths)
            .map(|floor| floor.to_string())
            .collect();
        assert_eq!(above, ["0=a4", "3=a8", "head=bf16"]);
        assert_eq!(Floor::of_policy(&[], 2).unwrap(), LayerFloors::none(3));
    }

    #[test]
    fn wrong_floors_are_named() {
        for text in [
            "", "a4", "x=a4", "-1=a4", "=a4", "1=", "1=a3", "1=plain", "Head=a4",
        ] {
            let error = text.parse::<Floor>().unwrap_err();
            assert!(matches!(error, Error::Range { .. }), "{text}: {error}");
        }
        for (text, named) in [
            ("4=a8", "4=a8"),
            ("1=a4,1=a8", "1=a8"),
            ("head=a2,head=a2", "head"),
        ] {
            let error = Floor::of_policy(&parse(text), 4).unwrap_err().to_string();
            assert!(
                error.contains(named) && error.contains("--floors"),
                "{error}"
            );
        }
    }
}
