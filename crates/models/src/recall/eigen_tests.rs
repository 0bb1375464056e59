use super::*;
use proptest::prelude::*;

fn wanted(count: usize) -> Wanted {
    Wanted { count, tolerance: 1e-10, rounds: 60, seed: 3, inflation: 0.0 }
}

/// Golden numbers of SciPy 1.17.1 and NumPy 2.4.6:
///
/// ```python
/// import numpy as np
/// from scipy.linalg import eigh
/// from scipy.sparse import coo_array
/// from scipy.sparse.csgraph import laplacian
/// n = 24
/// edges = [(i, j, (7 * i + 3 * j) % 5 + 1) for i in range(n) for j in range(i + 1, n)
///          if (i * i + 3 * j) % 7 == 0 or j == i + 1]
/// a, b, w = map(np.array, zip(*edges))
/// W = coo_array((w.astype(float), (a, b)), (n, n)).todense()
/// values, vectors = eigh(laplacian(W + W.T, normed=True))
/// vectors *= np.sign(vectors[np.abs(vectors).argmax(0), range(n)])
/// print(values[:6].round(9).tolist())
/// print(vectors[:, 1].round(7).tolist())
/// print(vectors[:, 4].round(7).tolist())
/// ```
#[test]
fn eigenpairs_are_those_of_scipy() {
    let n = 24u32;
    let mut edges = Vec::new();
    for i in 0..n {
        for j in i + 1..n {
            if (i * i + 3 * j) % 7 == 0 || j == i + 1 {
                edges.push((i, j, ((7 * i + 3 * j) % 5 + 1) as f32));
            }
        }
    }
    let values = [0.0, 0.263108238, 0.41891106, 0.458574721, 0.522458724, 0.580652453];
    let second = [
        -0.2467843, -0.1294025, 0.0263629, 0.3540633, 0.331585, 0.0421883, -0.1048958, -0.2119302,
        -0.0765915, -0.0513673, 0.2987594, 0.4092113, 0.0750757, -0.0815585, -0.2084534, -0.08634,
        -0.0525921, 0.1468721, 0.3803779, 0.0277224, -0.1526008, -0.2632308, -0.1082091, -0.1617385,
    ];
    let fifth = [
        0.4130949, 0.1542657, 0.0976495, 0.303469, 0.1361136, -0.1605423, -0.1456259, 0.1336686, -0.2246315,
        -0.144228, 0.0283728, 0.2623003, 0.0390876, -0.0852503, 0.2311724, -0.0641655, -0.4076137,
        -0.3024282, -0.0824614, -0.0945456, 0.0695724, 0.3184165, -0.1675542, -0.0753382,
    ];
    let graph = Graph::new(n as usize, edges, f32::max);
    let found = largest(&graph, &wanted(6), "spectral").unwrap();
    for (theta, lambda) in found.values.iter().zip(values) {
        assert!((1.0 - theta - lambda).abs() < 1e-8, "{:?}", found.values);
    }
    for (column, want) in [(1, second), (4, fifth)] {
        for (node, want) in want.iter().enumerate() {
            assert!((found.vectors[node * 6 + column] - want).abs() < 1e-6, "{column} {node}");
        }
    }
}

#[test]
fn every_component_has_a_one_and_lonely_nodes_have_zeros() {
    // Twenty triangles, more than a block finds at once, a pair, and two nodes without edges.
    let mut edges: Vec<(u32, u32, f32)> = (0..20u32)
        .flat_map(|t| [(3 * t, 3 * t + 1, 1.0), (3 * t, 3 * t + 2, 2.0), (3 * t + 1, 3 * t + 2, 1.0)])
        .collect();
    edges.push((60, 61, 5.0));
    let graph = Graph::new(64, edges, f32::max);
    let found = largest(&graph, &wanted(5), "x").unwrap();
    assert!(found.values.iter().all(|v| (v - 1.0).abs() < 1e-10), "{:?}", found.values);
    assert!(found.vectors[62 * 5..].iter().all(|x| *x == 0.0));
    let all = largest(&graph, &wanted(40), "x").unwrap();
    assert!((all.values[20] - 1.0).abs() < 1e-9 && all.values[21] < 0.5, "{:?}", all.values);
    let none = largest(&Graph::new(3, Vec::new(), f32::max), &wanted(2), "x").unwrap();
    assert_eq!(none.values.len(), 0);
    let few = largest(&Graph::new(9, vec![(2, 5, 1.0)], f32::max), &wanted(4), "x").unwrap();
    assert!((few.values[0] - 1.0).abs() < 1e-12 && (few.values[1] + 1.0).abs() < 1e-12);
}

#[test]
fn threads_do_not_matter_and_too_few_rounds_are_told() {
    let edges = (0..3000u32).map(|i| (i, (i * 7 + 1) % 1500, 1.0 + (i % 3) as f32)).collect();
    let graph = Graph::new(3000, edges, |a, b| a + b);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let rough = Wanted { tolerance: 0.5, rounds: 5, ..wanted(4) };
        pool.install(|| largest(&graph, &rough, "x").unwrap())
    };
    assert_eq!(on(1), on(2));
    let path = Graph::new(400, (0..399).map(|i| (i, i + 1, 1.0)).collect(), f32::max);
    let refused = largest(&path, &Wanted { rounds: 1, ..wanted(4) }, "spectral").unwrap_err().to_string();
    assert!(refused.contains("rounds") && refused.contains("tolerance"), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn values_and_vectors_are_those_of_the_whole_matrix(
        edges in prop::collection::vec((0u32..30, 0u32..30, 1u8..9), 20..90),
    ) {
        let n = 30;
        let edges = edges.into_iter().map(|(a, b, w)| (a, b, f32::from(w))).collect();
        let graph = Graph::new(n, edges, |a, b| a + b);
        let mut whole = vec![0.0; n * n];
        for a in 0..n as u32 {
            for (at, &b) in graph.of(a).iter().enumerate() {
                let scale = (graph.degree(a) * graph.degree(b)).sqrt();
                whole[a as usize * n + b as usize] = f64::from(graph.weight(a, at)) / scale;
            }
        }
        let (all, _) = symmetric(whole.clone(), n);
        // Nodes without edges have a value of 0 each that is not looked for.
        let lonely = (0..n as u32).filter(|&i| graph.of(i).is_empty()).count();
        let mut all = all;
        for _ in 0..lonely {
            let at = (0..all.len()).min_by(|&i, &j| all[i].abs().total_cmp(&all[j].abs())).unwrap();
            all.remove(at);
        }
        let found = largest(&graph, &wanted(4), "x").unwrap();
        let count = found.values.len();
        for (got, want) in found.values.iter().zip(&all) {
            prop_assert!((got - want).abs() < 1e-8, "{:?} {:?}", found.values, all);
        }
        for c in 0..count {
            let x: Vec<f64> = (0..n).map(|i| found.vectors[i * count + c]).collect();
            for (i, row) in whole.chunks(n).enumerate() {
                let y: f64 = row.iter().zip(&x).map(|(a, b)| a * b).sum();
                prop_assert!((y - found.values[c] * x[i]).abs() < 1e-8);
            }
            prop_assert!((x.iter().map(|v| v * v).sum::<f64>() - 1.0).abs() < 1e-9);
        }
    }
}
