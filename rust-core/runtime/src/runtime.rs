//! Node types, limits and the manifests already read: what runs share.

use crate::error::{Code, Error, Result};
use crate::limits::Limits;
use crate::manifest::Plan;
use crate::registry::{NodeType, Registry};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many manifests a runtime remembers.
const REMEMBERED: usize = 64;

/// Plans by the text of their manifest, with the time of the last use.
type Plans = HashMap<Box<[u8]>, (Arc<Plan>, u64)>;

/// Where pipelines are loaded.
pub struct Runtime {
    /// Those who read it have the one of that moment; who adds puts another in its place.
    registry: Mutex<Arc<Registry>>,
    limits: Limits,
    plans: Mutex<Plans>,
    uses: AtomicU64,
    parsed: AtomicU64,
}

impl Runtime {
    /// A runtime with these node types.
    pub fn new(registry: Registry, limits: Limits) -> Self {
        Runtime {
            registry: Mutex::new(Arc::new(registry)),
            limits,
            plans: Mutex::default(),
            uses: AtomicU64::new(0),
            parsed: AtomicU64::new(0),
        }
    }

    /// The node types that there are now.
    pub fn registry(&self) -> Arc<Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a node type, for manifests that are loaded from now on.
    ///
    /// # Errors
    /// `RM_E_ARGUMENT` if there is one of this name.
    pub fn add(&self, kind: NodeType) -> Result<()> {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let name = kind.name();
        if registry.has(name) {
            let message = format!("there is already a node type \"{name}\" in this runtime");
            return Err(Error::new(Code::Argument, message).hint(
                "choose another name; with and without the ending \"Node\" it is the same one",
            ));
        }
        let mut more = Registry::clone(&registry);
        more.add([kind]);
        *registry = Arc::new(more);
        Ok(())
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many manifests were read, not counting those that were remembered.
    pub fn manifests_parsed(&self) -> u64 {
        self.parsed.load(Ordering::Relaxed)
    }

    /// The plan of a manifest. The text of the last 64 is remembered, so the same text is read
    /// only once.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn load(&self, text: &[u8]) -> Result<Arc<Plan>> {
        let now = self.uses.fetch_add(1, Ordering::Relaxed);
        // A thread that panicked here has left the map whole.
        let plans = || self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((plan, used)) = plans().get_mut(text) {
            *used = now;
            return Ok(plan.clone());
        }
        self.parsed.fetch_add(1, Ordering::Relaxed);
        let plan = Arc::new(Plan::load(text, &self.registry(), &self.limits)?);
        let mut plans = plans();
        if plans.len() >= REMEMBERED
            && let Some(oldest) = plans.iter().min_by_key(|(_, (_, used))| *used)
        {
            let oldest = oldest.0.clone();
            plans.remove(&oldest);
        }
        plans.insert(text.into(), (plan.clone(), now));
        Ok(plan)
    }

    /// The plan of a manifest that may also name these node types; one of the same name takes the
    /// place of the runtime's. What was loaded so is not remembered.
    ///
    /// # Errors
    /// As [`Plan::load`].
    pub fn load_with(&self, text: &[u8], more: &[Arc<NodeType>]) -> Result<Arc<Plan>> {
        let mut registry = Registry::clone(&self.registry());
        registry.add(more.iter().cloned());
        self.parsed.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Plan::load(text, &registry, &self.limits)?))
    }
}
