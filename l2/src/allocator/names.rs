//! What the allocator calls itself and its own object in the API.

/// The name under which the API server notes what is ours.
pub(super) const FIELD_MANAGER: &str = "causeway-allocator";
/// The name of our own ConfigurationState, as MetalLB's controller's.
pub(super) const STATE_NAME: &str = "controller";
