//! JSON as this format needs it: objects in file order, each field asked for by name, errors that say which.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A JSON value. Of what the format does not use, only the kind is kept.
#[derive(Debug)]
pub(super) enum Node {
    Number(f64),
    Object(Vec<(String, Node)>),
    Other(&'static str),
}

impl Node {
    fn kind(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Object(_) => "an object",
            Self::Other(kind) => kind,
        }
    }
}

/// An object and where it is: `path` is what its fields' names are appended to.
pub(super) struct Fields<'a> {
    path: String,
    fields: &'a [(String, Node)],
}

/// What is wrong, the field named.
pub(super) type Refusal = String;

impl<'a> Fields<'a> {
    pub(super) fn root(node: &'a Node) -> Result<Self, Refusal> {
        match node {
            Node::Object(fields) => Ok(Self {
                path: String::new(),
                fields,
            }),
            other => Err(format!("must be an object, it is {}", other.kind())),
        }
    }

    fn get(&self, name: &str) -> Result<&'a Node, Refusal> {
        let mut found = self.fields.iter().filter(|(key, _)| key == name);
        match (found.next(), found.next()) {
            (Some((_, node)), None) => Ok(node),
            (None, _) => Err(format!("there is no field `{}{name}`", self.path)),
            (Some(_), Some(_)) => Err(format!("`{}{name}` is there twice", self.path)),
        }
    }

    pub(super) fn number(&self, name: &str) -> Result<f64, Refusal> {
        match self.get(name)? {
            Node::Number(x) => Ok(*x),
            other => Err(format!(
                "`{}{name}` must be a number, it is {}",
                self.path,
                other.kind()
            )),
        }
    }

    /// An integer from 0 to `u32::MAX`.
    pub(super) fn integer(&self, name: &str) -> Result<u32, Refusal> {
        let x = self.number(name)?;
        if x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x) {
            Ok(x as u32)
        } else {
            let most = u32::MAX;
            Err(format!(
                "`{}{name}` is {x}, it must be an integer in 0..={most}",
                self.path
            ))
        }
    }

    pub(super) fn object(&self, name: &str) -> Result<Fields<'a>, Refusal> {
        match self.get(name)? {
            Node::Object(fields) => Ok(Fields {
                path: format!("{}{name}.", self.path),
                fields,
            }),
            other => Err(format!(
                "`{}{name}` must be an object, it is {}",
                self.path,
                other.kind()
            )),
        }
    }

    /// Names of the fields, in file order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_f64<E>(self, x: f64) -> Result<Node, E> {
        Ok(Node::Number(x))
    }

    fn visit_u64<E>(self, x: u64) -> Result<Node, E> {
        Ok(Node::Number(x as f64))
    }

    fn visit_i64<E>(self, x: i64) -> Result<Node, E> {
        Ok(Node::Number(x as f64))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other("a boolean"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Other("a string"))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Other("null"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Node::Object(fields))
    }
}
