//! Floors: the narrowest width of each layer.

use crate::Width;

/// The narrowest width of each layer. A layer runs at the width of the step or at its floor,
/// whichever is wider.
///
/// A few layers cause most of the error of a narrow width. Floors keep these layers precise while
/// the others run at the width of the step.
///
/// ```
/// use w4ax::Width;
/// use w4ax::dispatch::LayerFloors;
/// let floors = LayerFloors::new(vec![Width::A4, Width::A2, Width::A2]);
/// assert_eq!(floors.width(0, Width::A2), Width::A4);
/// assert_eq!(floors.width(1, Width::A2), Width::A2);
/// assert_eq!(floors.width(0, Width::A8), Width::A8);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerFloors(Vec<Width>);

impl LayerFloors {
    /// Creates floors, `[layers]`.
    pub const fn new(floors: Vec<Width>) -> Self {
        Self(floors)
    }

    /// Creates floors that have no effect.
    pub fn none(layers: usize) -> Self {
        Self(vec![Width::A2; layers])
    }

    /// Returns the number of layers.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no layers.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the width at which a layer runs in a step.
    ///
    /// # Panics
    /// If the layer is out of range.
    pub fn width(&self, layer: usize, step: Width) -> Width {
        step.max(self.0[layer])
    }

    /// Sets the floor of a layer.
    ///
    /// # Panics
    /// If the layer is out of range.
    pub fn set(&mut self, layer: usize, floor: Width) {
        self.0[layer] = floor;
    }

    /// Returns the floors, `[layers]`.
    pub fn as_slice(&self) -> &[Width] {
        &self.0
    }
}
